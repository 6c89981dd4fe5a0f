"""`waypost database`: create or upgrade the schema, copy everything into another database."""

from contextlib import ExitStack

import click
from sqlalchemy.exc import SQLAlchemyError

from gateway.commands.options import (
    agree,
    json_option,
    print_json,
    say_database,
    settings_option,
    yes_option,
)
from gateway.settings.config import ConfigurationError, GatewaySettings
from gateway.storage.copying import check, copy_all, count_rows
from gateway.storage.database import (
    create_database_engine,
    ensure_schema,
    schema_revision,
    summary,
    wait_for_database,
)
from gateway.storage.engines import connected
from gateway.storage.lease import describe, holders
from migrations.tables import HEAD_REVISION


@click.group()
def command() -> None:
    """Create or upgrade the database schema, or copy the database."""


@command.command()
@settings_option
def upgrade(settings: GatewaySettings) -> None:
    """Bring the schema to the newest revision; safe while gateways run, and to run again."""
    with connected(settings) as engine:
        say_database(settings)
        wait_for_database(engine, settings.database.wait_s)
        has_changed = ensure_schema(engine)
    click.echo(f"{'upgraded to' if has_changed else 'already at'} {HEAD_REVISION}")


@command.command()
@settings_option
def current(settings: GatewaySettings) -> None:
    """Show the revision of the schema; fails where it is not the newest."""
    with connected(settings) as engine:
        revision = schema_revision(engine)
    click.echo(revision or "no schema")
    if revision != HEAD_REVISION:
        raise click.ClickException(f"not at {HEAD_REVISION}: run `waypost database upgrade`")


@command.command()
@click.option("--to", "url", required=True, help="URL of the database to fill, as `database.url`.")
@click.option("--dry-run", is_flag=True, help="Say what would be copied, and stop.")
@yes_option
@json_option
@settings_option
def copy(settings: GatewaySettings, url: str, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Copy everything into an empty database, such as from SQLite to Postgres.

    Stop the gateways first: what they write meanwhile is not copied. The source stays as it is.
    """
    with ExitStack() as stack:
        source = stack.enter_context(connected(settings))
        try:
            target = create_database_engine(url)
            stack.callback(target.dispose)
            check(source, target)
            if dry_run:
                copied = dict(count_rows(source))
            else:
                say_database(settings)
                using = [describe(holder) for holder in holders(source)]
                doubts = [f"it is in use by {who}: what it writes is not copied" for who in using]
                agree("copy the database", doubts, is_given=yes)
                copied = copy_all(
                    source, target, lambda table, rows: _say(table, rows, as_json=as_json)
                )
        except ConfigurationError as error:
            raise click.ClickException(str(error)) from error
        except SQLAlchemyError as error:
            raise click.ClickException(
                f"the database cannot be copied: {summary(error)}"
            ) from error
    if as_json:
        print_json({"rows": copied, "is_dry_run": dry_run})
        return
    if dry_run:
        for table, rows in copied.items():
            click.echo(f"would copy {rows:,} rows of {table}")
        return
    click.echo(f"copied {sum(copied.values()):,} rows; set `database.url` to the new database")


def _say(table: str, rows: int, *, as_json: bool) -> None:
    click.echo(f"{table}: {rows:,} rows", err=as_json)
