"""Options that several subcommands share."""

from pathlib import Path
from typing import Any

import click

from gateway.settings.config import GatewaySettings, load_settings, process_environment


def _load(ctx: click.Context, param: click.Parameter, value: Path | None) -> GatewaySettings:
    del ctx, param
    return load_settings(value, process_environment())


def settings_option(function: Any) -> Any:
    """Give a command ``--config FILE`` and hand it the settings as the argument `settings`."""
    return click.option(
        "--config",
        "settings",
        type=click.Path(path_type=Path, dir_okay=False),
        callback=_load,
        help="TOML file of settings; by default $WAYPOST_CONFIG, else no file.",
    )(function)
