"""Lends a command the database; what goes wrong with it ends the command with one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import GatewayError
from gateway.settings.config import GatewaySettings
from gateway.storage.database import create_database_engine, ensure_schema, summary


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
