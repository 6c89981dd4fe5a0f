"""Options that several subcommands share."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from gateway.settings.config import GatewaySettings, load_settings, process_environment
from gateway.wire import MAX_WILLINGNESS_TO_PAY_USD

TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])


def in_utc(moment: datetime | None) -> datetime | None:
    """Take a time of the command line for one in UTC."""
    return None if moment is None else moment.replace(tzinfo=UTC)


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


skip_incomplete_option = click.option(
    "--skip-incomplete",
    is_flag=True,
    help="Leave out rows of DATA without a query, a model, a score or a cost, and say which.",
)


def _positive(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    del ctx, param
    # Not a range of click's, which lets "nan" through.
    if value is None or 0 < value <= MAX_WILLINGNESS_TO_PAY_USD:
        return value
    raise click.BadParameter(
        f"{value} is not a number of USD above 0 and at most {MAX_WILLINGNESS_TO_PAY_USD:g}"
    )


willingness_option: Callable[[Any], Any] = click.option(
    "--willingness-to-pay",
    type=float,
    callback=_positive,
    metavar="USD",
    help="What a unit of quality is worth: a finite amount above 0.",
)
