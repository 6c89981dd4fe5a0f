"""`waypost database`: create or upgrade the schema."""

import click

from gateway.commands.options import say_database, settings_option
from gateway.settings.config import GatewaySettings
from gateway.storage.database import (
    ensure_schema,
    schema_revision,
    wait_for_database,
)
from gateway.storage.engines import connected
from migrations.tables import HEAD_REVISION


@click.group()
def command() -> None:
    """Create or upgrade the database schema."""


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
