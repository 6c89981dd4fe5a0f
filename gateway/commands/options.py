"""Options that several subcommands share, and what those do alike that change or destroy."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click
import orjson
from sqlalchemy import Engine, make_url

from gateway.settings.config import GatewaySettings, load_settings, process_environment
from gateway.storage.engines import opened
from gateway.wire import MAX_WILLINGNESS_TO_PAY_USD

NO_SETTINGS: Final = "gateway.commands.options.no_settings"
"""Key of a command's context: neither --config nor the environment names a file."""
TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])


def in_utc(moment: datetime | None) -> datetime | None:
    """Take a time of the command line for one in UTC."""
    return None if moment is None else moment.replace(tzinfo=UTC)


def _load(ctx: click.Context, param: click.Parameter, value: Path | None) -> GatewaySettings:
    del param
    environ = process_environment()
    ctx.meta[NO_SETTINGS] = value is None and not environ.get("WAYPOST_CONFIG")
    return load_settings(value, environ)


def settings_option(function: Any) -> Any:
    """Give a command ``--config FILE`` and hand it the settings as the argument `settings`."""
    return click.option(
        "--config",
        "settings",
        type=click.Path(path_type=Path, dir_okay=False),
        callback=_load,
        help="TOML file of settings; by default $WAYPOST_CONFIG, else no file.",
    )(function)


def say_database(settings: GatewaySettings) -> None:
    """Say on standard error which database a command is about to change."""
    url = make_url(settings.database_url).render_as_string(hide_password=True)
    context = click.get_current_context()
    why = " (no --config and no WAYPOST_CONFIG: the default)" if context.meta[NO_SETTINGS] else ""
    click.echo(f"database: {url}{why}", err=True)


@contextmanager
def changing(settings: GatewaySettings) -> Iterator[Engine]:
    """Lend the database to a command that changes it, and say on standard error which it is."""
    with opened(settings) as engine:
        say_database(settings)
        yield engine


@dataclass(frozen=True, slots=True)
class Consent:
    """Whether a command may destroy: asked for, given beforehand, or not wanted."""

    is_given: bool
    is_dry_run: bool

    def to(self, deed: str) -> bool:
        """Return whether to do it; `deed` says exactly what would be destroyed.

        Raises:
            Abort: Who was asked says no.
            UsageError: Nobody can be asked.
        """
        if self.is_dry_run:
            click.echo(f"would do: {deed}")
            return False
        if self.is_given:
            return True
        if not sys.stdin.isatty():
            raise click.UsageError(
                f"this would do: {deed}. It cannot be undone; give --yes, or --dry-run to look"
            )
        click.confirm(f"{deed}. This cannot be undone. Do it?", abort=True, err=True)
        return True


def agree(deed: str, doubts: Sequence[str], *, is_given: bool) -> None:
    """Ask whether to do what there are doubts about; say them at least where consent is given.

    Raises:
        Abort: Who was asked says no.
        UsageError: Nobody can be asked.
    """
    for doubt in doubts:
        click.echo(f"doubt: {doubt}", err=True)
    if not doubts or is_given:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{deed}? There are doubts; give --yes to do it all the same")
    click.confirm(f"{deed} all the same?", abort=True, err=True)


yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def destroys(function: Any) -> Any:
    """Give a command ``--yes`` and ``--dry-run``, and hand it a `Consent` to ask for."""

    @wraps(function)
    def with_consent(*args: Any, yes: bool, dry_run: bool, **named: Any) -> Any:
        return function(*args, consent=Consent(yes, dry_run), **named)

    for option in (
        click.option("--dry-run", is_flag=True, help="Say what would be destroyed, and stop."),
        yes_option,
    ):
        with_consent = option(with_consent)
    return with_consent


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: Any) -> None:
    """Print what a program reads: times in UTC, money also in whole nano-USD."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))


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
