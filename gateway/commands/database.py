"""`waypost database`: create or upgrade the schema."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.commands.options import settings_option
from gateway.config import GatewaySettings
from gateway.database import (
    create_database_engine,
    ensure_schema,
    schema_revision,
    summary,
    wait_for_database,
)
from gateway.errors import GatewayError
from migrations.tables import HEAD_REVISION


@click.group()
def command() -> None:
    """Create or upgrade the database schema."""


@command.command()
@settings_option
def upgrade(settings: GatewaySettings) -> None:
    """Bring the schema to the newest revision; safe while gateways run, and to run again."""
    with connected(settings) as engine:
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


@contextmanager
def connected(settings: GatewaySettings) -> Iterator[Engine]:
    """Lend the engine; what goes wrong with the database ends the command with one line."""
    engine = create_database_engine(settings.database_url)
    try:
        yield engine
    except GatewayError as error:
        raise click.ClickException(error.message) from error
    except SQLAlchemyError as error:
        where = engine.url.render_as_string(hide_password=True)
        raise click.ClickException(f"database {where}: {summary(error)}") from error
    finally:
        engine.dispose()


@contextmanager
def opened(settings: GatewaySettings) -> Iterator[Engine]:
    """Lend the engine of a database whose schema is up to date."""
    with connected(settings) as engine:
        ensure_schema(engine)
        yield engine
