"""Brings a database to the newest revision; Alembic is set up in code, without an ini file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, func, select

POSTGRES_LOCK = 0x77617970
"""Key of the advisory lock that lets one process migrate at a time ("wayp")."""


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the database to `revision`; safe when several processes do so at once.

    On Postgres an advisory lock serialises them, on SQLite the write lock that BEGIN IMMEDIATE
    takes; both are released with the transaction, so a killed migration leaves nothing behind.
    """
    with _locked(engine) as connection:
        command.upgrade(configuration(connection), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Take the database back to `revision`; ``base`` drops every table."""
    with _locked(engine) as connection:
        command.downgrade(configuration(connection), revision)


def current(connection: Connection) -> str | None:
    """Return the revision of the database; None before the first upgrade."""
    return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    """Return the newest revision there is."""
    return ScriptDirectory.from_config(configuration(None)).get_current_head()


def revisions() -> list[str]:
    """Return all revisions, the oldest first."""
    scripts = ScriptDirectory.from_config(configuration(None)).walk_revisions()
    return [script.revision for script in scripts][::-1]


def configuration(connection: Connection | None) -> Config:
    """Point Alembic at this package, so that it works from an installed wheel."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@contextmanager
def _locked(engine: Engine) -> Iterator[Connection]:
    immediate = engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
    with immediate.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(POSTGRES_LOCK)))
        yield connection
