"""`waypost log`: show turns of the evaluation log, export and prune it."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import click
import orjson

from gateway.commands.options import TIME, Consent, changing, destroys, in_utc, settings_option
from gateway.commands.turn_text import turn_text
from gateway.evaluation_log.log_export import DatabaseRows, Selection, write_csv
from gateway.evaluation_log.one_turn import find_turns
from gateway.settings.config import GatewaySettings
from gateway.storage.database import writing
from gateway.storage.engines import opened
from gateway.storage.rows import count_old, prune_rows


@click.group()
def command() -> None:
    """Show turns of the evaluation log, export and prune it."""


@command.command()
@settings_option
@click.argument("turn_id", metavar="ID")
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
def show(settings: GatewaySettings, turn_id: str, is_json: bool) -> None:  # noqa: FBT001 - click's
    """Show a turn: which model, why, what it cost, how long it took.

    ID is that of a request, a decision, an answer or a trace. Of a trace all turns are shown.
    """
    with opened(settings) as engine:
        found = find_turns(engine, turn_id)
    if not found:
        raise click.ClickException(
            f"no turn has the id {turn_id}; rows are written within "
            f"{settings.evaluation_log.flush_interval_s:g} s, and kept for "
            "evaluation_log.retention_days"
        )
    if is_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    click.echo("\n\n".join(turn_text(turn) for turn in found))


@command.command()
@settings_option
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, .parquet or .csv; replaced if it exists.",
)
@click.option("--since", type=TIME, help="Only turns from this time on, in UTC.")
@click.option("--until", type=TIME, help="Only turns before this time, in UTC.")
@click.option("--team", help="Only this team's turns.")
@click.option("--encoder", help="Only turns embedded by this encoder.")
@click.option(
    "--with-checks",
    is_flag=True,
    help="Export turns too that only the gateway's own checks and signals graded.",
)
@click.option("--all", "is_whole", is_flag=True, help="Export ungraded and failed turns too.")
def export(
    settings: GatewaySettings,
    out: Path,
    since: datetime | None,
    until: datetime | None,
    team: str | None,
    encoder: str | None,
    with_checks: bool,  # noqa: FBT001 - click hands flags over by name
    is_whole: bool,  # noqa: FBT001 - likewise
) -> None:
    """Write graded turns as the table that `waypost train` reads."""
    write = _writer(out)
    teams = None if team is None else (team,)
    selection = Selection(
        in_utc(since), in_utc(until), teams, encoder, is_whole=is_whole, with_checks=with_checks
    )
    partial = out.with_name(f"{out.name}.partial")
    try:
        with opened(settings) as engine:
            written = write(DatabaseRows(engine).iter_evaluations(selection), partial)
        partial.replace(out)
    except OSError as error:
        raise click.ClickException(f"{out}: cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):  # the folder may be none
            partial.unlink(missing_ok=True)
    click.echo(f"{written} rows in {out}")
    if not written and not is_whole:
        click.echo("Only graded turns are exported: send grades to /v1/feedback, or use --all.")


@command.command()
@settings_option
@click.option(
    "--older-than-days",
    type=click.IntRange(min=1),
    help="Age of the rows to delete; evaluation_log.retention_days by default.",
)
@destroys
def prune(settings: GatewaySettings, older_than_days: int | None, consent: Consent) -> None:
    """Delete old turns and grades; a running gateway does so every hour."""
    days = older_than_days or settings.evaluation_log.retention_days
    if days is None:
        raise click.ClickException(
            "evaluation_log.retention_days is not set; give --older-than-days"
        )
    before = datetime.now(UTC) - timedelta(days=days)
    pruned = 0
    with changing(settings) as engine:
        with engine.connect() as connection:
            old = count_old(connection, before)
        rows = " and ".join(f"{count} {name}" for name, count in old.items())
        if not consent.to(f"delete {rows} from before {before:%Y-%m-%d %H:%M} UTC"):
            return
        while True:
            with writing(engine) as connection:
                batch = prune_rows(connection, before)
            pruned += batch
            if not batch:
                break
    click.echo(f"{pruned} rows older than {days} days deleted")


def _writer(out: Path) -> Callable[..., int]:
    """Choose the writer by the file's name; only parquet needs pyarrow."""
    if out.suffix == ".csv":
        return write_csv
    if out.suffix != ".parquet":
        raise click.BadParameter("the name must end in .parquet or .csv", param_hint="--out")
    try:
        write: Callable[..., int] = import_module(
            "gateway.evaluation_log.log_parquet"
        ).write_parquet
    except ModuleNotFoundError as error:
        raise click.ClickException(
            "parquet needs pyarrow: pip install 'waypost[train]', or write a .csv file"
        ) from error
    return write
