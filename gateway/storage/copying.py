"""Copies all that a gateway keeps in one database into another, such as from SQLite to Postgres."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Engine,
    Integer,
    Table,
    func,
    insert,
    inspect,
    select,
    text,
    type_coerce,
)

from gateway.settings.config import ConfigurationError
from gateway.storage.database import ensure_schema, schema_revision, writing
from migrations.tables import HEAD_REVISION, KEY_CHANGES, LEASES, METADATA, Columns, Json

ROWS_AT_ONCE: Final = 1_000
STAYING: Final = frozenset({KEY_CHANGES, LEASES})
"""What is true of one database: a counter that its triggers keep, and processes that use it."""
COPIED: Final = tuple(table for table in METADATA.sorted_tables if table not in STAYING)
"""In an order in which no row comes before one that it names."""


def copy_all(
    source: Engine, target: Engine, tell: Callable[[str, int], None] | None = None
) -> dict[str, int]:
    """Copy every row as it is at one moment; returns how many rows each table has.

    All of it is one transaction of the target, so what fails leaves nothing. Memory is bounded by
    `ROWS_AT_ONCE` rows.

    Args:
        target: Empty, with or without schema; it gets the newest one.
        tell: Called with each table that is done.

    Raises:
        ConfigurationError: The two are one database, the source's schema is not the newest, or the
            target holds rows.
    """
    check(source, target)
    ensure_schema(target)
    counts: dict[str, int] = {}
    with _snapshot(source) as reading, writing(target) as connection:
        for table in COPIED:
            name = str(table.name)
            counts[name] = _copy(table, reading, connection)
            _count_on(table, connection)
            if tell is not None:
                tell(name, counts[name])
        for name, rows in counts.items():
            arrived = connection.scalar(select(func.count()).select_from(METADATA.tables[name]))
            if arrived != rows:
                raise ConfigurationError(f"{name}: {rows} rows were read and {arrived} arrived")
    return counts


def check(source: Engine, target: Engine) -> None:
    """Say why one cannot be copied into the other.

    Raises:
        ConfigurationError: As `copy_all`.
    """
    if source.url == target.url:
        raise ConfigurationError("source and target are the same database")
    revision = schema_revision(source)
    if revision != HEAD_REVISION:
        raise ConfigurationError(
            f"the source is at revision {revision or 'none'}, not at {HEAD_REVISION}: run "
            "`waypost database upgrade` first"
        )
    if _is_file_to_come(target):
        return
    there = schema_revision(target)
    if there is not None and there > HEAD_REVISION:
        raise ConfigurationError(f"the target is at revision {there}, of a newer Waypost")
    if there is None:
        return
    # An older schema lacks some of the tables.
    known = set(inspect(target).get_table_names())
    for name, rows in count_rows(target, [table for table in COPIED if table.name in known]):
        if rows:
            raise ConfigurationError(
                f"the target is not empty: {name} has {rows} rows. Copy into a new database"
            )


def count_rows(engine: Engine, tables: Iterable[Table] = COPIED) -> Iterator[tuple[str, int]]:
    """Count the rows of each table, by default of those that are copied."""
    with engine.connect() as connection:
        for table in tables:
            count = select(func.count()).select_from(table)
            # Names are of a class of SQLAlchemy's, which JSON does not take.
            yield str(table.name), connection.execute(count).scalar_one()


def _is_file_to_come(target: Engine) -> bool:
    """Whether the target is a file that a connection would make."""
    file = target.url.database
    return target.dialect.name == "sqlite" and bool(file) and not Path(str(file)).exists()


def _snapshot(source: Engine) -> Any:
    """Open a connection all of whose reads see one moment."""
    if source.dialect.name == "postgresql":
        return source.connect().execution_options(isolation_level="REPEATABLE READ")
    return source.connect()


def _copy(table: Table, reading: Connection, connection: Connection) -> int:
    # JSON passes as it is stored, also where it is stored by column.
    columns = [
        type_coerce(column, Json()).label(column.name)
        if isinstance(column.type, Columns)
        else column
        for column in table.c
    ]
    query = select(*columns).order_by(*table.primary_key)
    found = reading.execution_options(yield_per=ROWS_AT_ONCE).execute(query).mappings()
    rows = 0
    for part in found.partitions():
        connection.execute(insert(table), [dict(row) for row in part])
        rows += len(part)
    return rows


def _count_on(table: Table, connection: Connection) -> None:
    """Have Postgres count on from the highest number that was copied."""
    (key, *others) = table.primary_key
    if connection.dialect.name != "postgresql" or others or not isinstance(key.type, Integer):
        return
    name = connection.scalar(select(func.pg_get_serial_sequence(table.name, key.name)))
    if name is not None:
        highest = connection.scalar(select(func.max(key)))
        connection.execute(
            text("SELECT setval(:name, :value, :is_called)"),
            {"name": name, "value": highest or 1, "is_called": highest is not None},
        )
