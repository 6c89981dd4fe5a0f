"""The one synchronous engine, used off the event loop only.

Writes happen in the evaluation log's writer thread, reads in worker threads; why there is no async
driver is in docs/decisions/database.md.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import (
    Connection,
    Dialect,
    Engine,
    StaticPool,
    Table,
    create_engine,
    event,
    func,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
    StatementError,
)

from gateway.settings.config import ConfigurationError
from gateway.storage.hanging import BreakablePool
from migrations.tables import HEAD_REVISION

BUSY_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 3
DIALECTS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}
ROW_FAULT_SQLSTATES = ("22", "23", "54")
"""Postgres' classes data exception, integrity violation and limit exceeded (a row too big)."""
RETRY_S = 0.5
POSTGRES_START_LOCK = 0x77617973
"""Key of the advisory lock of those that start ("ways"); another than the migrations'."""
JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


logger = logging.getLogger(__name__)


def create_database_engine(url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """Make the engine for `url`; nothing is opened before the first use.

    Raises:
        ConfigurationError: The URL is malformed, or names neither SQLite nor Postgres.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed, busy_timeout_s)
    return create_engine(
        parsed,
        hide_parameters=True,  # they are what callers asked
        json_serializer=dump_json,
        json_deserializer=orjson.loads,
        poolclass=BreakablePool,
        pool_size=4,
        max_overflow=4,
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "waypost",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
        },
    )


@contextmanager
def one_start_at_a_time(engine: Engine) -> Iterator[None]:
    """Keep out other processes that start; a SQLite file has one process, which is let through."""
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(POSTGRES_START_LOCK)))
        yield


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that writes.

    On SQLite it takes the write lock at once: a transaction that starts by reading and writes later
    fails with "database is locked" instead of waiting for its turn.
    """
    immediate = engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
    with immediate.begin() as connection:
        yield connection


def insertion_into(table: Table, dialect: Dialect) -> Any:
    """Begin an insertion that can say what happens ON CONFLICT, which each dialect does its way.

    The dialect's module is there already, the engine's; the other's would take 2 MB.
    """
    return import_module(f"sqlalchemy.dialects.{dialect.name}").insert(table)


def is_row_fault(error: Exception) -> bool:
    """Whether `error` is the fault of the row written, so that trying again cannot help.

    Everything else counts as an outage: a row is kept when in doubt.
    """
    if isinstance(error, (DataError, IntegrityError, NotSupportedError)):
        return True
    if isinstance(error, DBAPIError):
        if isinstance(error.orig, (sqlite3.InterfaceError, sqlite3.ProgrammingError)):
            return True
        sqlstate = getattr(error.orig, "sqlstate", "")
        if sqlstate is None:  # psycopg could not send the row
            return isinstance(error, ProgrammingError)
        return bool(sqlstate.startswith(ROW_FAULT_SQLSTATES))
    return not isinstance(error, (SQLAlchemyError, OSError)) or isinstance(error, StatementError)


def summary(error: Exception) -> str:
    """Say in a line what went wrong, without the statement or the row: logs must not hold them."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"


def schema_revision(engine: Engine) -> str | None:
    """Return the revision of the database; None where it has no schema yet."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.execute(
            text("SELECT version_num FROM alembic_version")
        ).scalar()
        return revision


def wait_for_database(
    engine: Engine,
    wait_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when the database answers.

    Raises:
        OperationalError: It did not within `wait_s`; what it said last.
    """
    give_up_at_s = clock() + wait_s
    while True:
        try:
            engine.connect().close()
        except OperationalError as error:
            if clock() >= give_up_at_s:
                raise
            logger.warning("waiting for the database: %s", summary(error))
            sleep(RETRY_S)
        else:
            return


def ensure_schema(engine: Engine) -> bool:
    """Bring the schema to the newest revision; returns whether there was anything to do.

    A newer schema is served as it is: revisions take no table or column away, so that a release
    works beside the next one while that is rolled out, and after it was rolled back. Alembic is
    imported only where there is something to do: it costs a tenth of a second at every start.
    """
    revision = schema_revision(engine)
    if revision is not None and revision >= HEAD_REVISION:
        return False
    import_module("migrations.history").upgrade(engine)
    return True


def dump_json(value: Any) -> str:
    """Serialise a JSON column; dataclasses too. Postgres cannot store U+0000."""
    return orjson.dumps(value, option=JSON_OPTIONS).decode().replace("\\u0000", "\\ufffd")


def _parse(url: str) -> URL:
    """Accept the URLs that hosting services hand out, ``postgres://`` included."""
    if url.startswith("postgres://"):
        url = "postgresql" + url.removeprefix("postgres")
    try:
        parsed = make_url(url)
    except SQLAlchemyError as error:
        raise ConfigurationError(
            "database.url: not a database URL; write sqlite:////path/waypost.db or "
            "postgresql://user:password@host/database"
        ) from error
    name = parsed.get_backend_name()
    if name not in DIALECTS:
        raise ConfigurationError(f"database.url: {name!r} is not supported; use SQLite or Postgres")
    return parsed.set(drivername=DIALECTS[name])


def _sqlite_engine(url: URL, busy_timeout_s: float) -> Engine:
    file = url.database
    in_memory = not file or file == ":memory:"
    engine = create_engine(
        url,
        hide_parameters=True,  # they are what callers asked
        json_serializer=dump_json,
        json_deserializer=orjson.loads,
        connect_args={"check_same_thread": False, "timeout": busy_timeout_s},
        **({"poolclass": StaticPool} if in_memory else {}),
    )
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    if not in_memory:
        event.listen(engine, "do_connect", _create_private_file(Path(str(file))))
    return engine


def _configure_sqlite(connection: Any, record: Any) -> None:
    """Let readers and the writer work side by side, and let SQLAlchemy begin transactions."""
    del record
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def _create_private_file(file: Path) -> Any:
    """Make the file readable by its owner alone: it holds what callers asked."""

    def create(dialect: Any, record: Any, args: Any, kwargs: Any) -> None:
        del dialect, record, args, kwargs
        # Where this fails SQLite fails too, with an error that says database.
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file.touch(mode=0o600)

    return create
