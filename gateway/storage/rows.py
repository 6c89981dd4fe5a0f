"""Evaluation rows on their way to the database: from records, to and from the spool, inserted."""

import base64
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import (
    Connection,
    Dialect,
    String,
    Table,
    and_,
    delete,
    func,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    update,
)

from budget.ledger.settlements import EXPIRED, RECOVERED
from budget.ledger.types import UnjournaledCharge
from gateway.storage.database import JSON_OPTIONS, insertion_into
from migrations.tables import CONVERSATIONS, GRADES, KEYS, SETTLEMENTS, STORED_RESPONSES, TURNS

TABLES: dict[str, Table] = {
    table.name: table for table in (TURNS, GRADES, SETTLEMENTS, STORED_RESPONSES)
}
TIMES = ("started_at", "created_at", "reserved_at", "settled_at")
SLICE_ROWS = 50
"""Rows inserted between two chances for the event loop to take the interpreter lock."""
MANY_VALUES_SQLITE = (3, 32)
"""The first SQLite whose statements take the values of so many rows."""
STATEMENT_TIMEOUT_S = 10
PRUNE_ROWS = 1000
PRUNED = (("turns", "request_id", "started_at"), ("grades", "id", "created_at"))


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the table it belongs to and its columns.

    Attributes:
        acknowledges: What the ledger's store is told once the row is kept.
    """

    table: str
    columns: dict[str, Any]
    acknowledges: UnjournaledCharge | None = None


def to_payload(row: Row) -> bytes:
    """Write `row` as one line of JSON for the spool."""
    columns = row.columns
    embedding = columns.get("query_embedding")
    if embedding is not None:
        columns = columns | {"query_embedding": base64.b64encode(embedding).decode("ascii")}
    return orjson.dumps([row.table, columns], option=JSON_OPTIONS)


def from_payload(payload: bytes) -> Row:
    """Read a line that `to_payload` wrote, be it another version's: unknown columns are left out.

    Raises:
        ValueError: It holds no row.
    """
    content = orjson.loads(payload)
    if not isinstance(content, list) or content[:1] not in ([name] for name in TABLES):
        raise ValueError("no row of a known table")
    table, columns = content
    columns = {name: value for name, value in columns.items() if name in TABLES[table].c}
    for name in TIMES:
        if name in columns:
            columns[name] = datetime.fromisoformat(columns[name])
    if columns.get("query_embedding") is not None:
        columns["query_embedding"] = base64.b64decode(columns["query_embedding"])
    return Row(table, columns)


def insert_rows(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert `rows`, skipping those that are there already, a slice at a time.

    A settlement replaces the row that somebody else wrote for it: of a lease that was taken for
    dead, or of a charge whose gateway was. That is so whichever is written first.
    Between slices the interpreter lock is given up, so that a large batch never delays the event
    loop by more than a slice takes (1 to 2 ms).
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT_S}s'"))
    for table in TABLES:
        columns = [row.columns for row in rows if row.table == table]
        if table == "settlements":
            columns.sort(key=_request_id)  # in one order, so that two writers never deadlock
        for names, alike in groupby(columns, tuple):
            for part in _slices(list(alike)):
                filled = _filled(names, part)
                _insertion(connection.dialect, table, filled).execute(connection, part)
                time.sleep(0)


def touch_keys(connection: Connection, last_used: dict[str, datetime]) -> None:
    """Note when each key was last used; in one order, so that two writers never deadlock."""
    for key_id, moment in sorted(last_used.items()):
        connection.execute(
            update(KEYS)
            .where(KEYS.c.id == key_id)
            .where(or_(KEYS.c.last_used_at.is_(None), KEYS.c.last_used_at < moment))
            .values(last_used_at=moment)
        )


def count_old(connection: Connection, before: datetime) -> dict[str, int]:
    """Count the turns and grades older than `before`, by table."""
    return {
        name: connection.execute(
            select(func.count()).select_from(TABLES[name]).where(TABLES[name].c[moment] < before)
        ).scalar_one()
        for name, _, moment in PRUNED
    }


def prune_rows(connection: Connection, before: datetime, max_rows: int = PRUNE_ROWS) -> int:
    """Delete up to `max_rows` turns and as many grades older than `before`; returns how many."""
    deleted = 0
    for name, key, moment in PRUNED:
        table = TABLES[name]
        old = (
            select(table.c[key])
            .where(table.c[moment] < before)
            .order_by(table.c[moment])
            .limit(max_rows)
            .with_for_update(skip_locked=True)
        )
        deleted += connection.execute(delete(table).where(table.c[key].in_(old))).rowcount
    return deleted


def prune_responses(connection: Connection, before: datetime, max_rows: int = PRUNE_ROWS) -> int:
    """Delete up to `max_rows` stored responses older than `before`, and as many conversations.

    Returns:
        How many were deleted.
    """
    deleted = 0
    for table in (STORED_RESPONSES, CONVERSATIONS):
        key = tuple_(table.c.team_id, table.c.id)
        old = (
            select(table.c.team_id, table.c.id)
            .where(table.c.created_at < before)
            .order_by(table.c.created_at)
            .limit(max_rows)
            .with_for_update(skip_locked=True)
        )
        deleted += connection.execute(delete(table).where(key.in_(old))).rowcount
    return deleted


@dataclass(frozen=True, slots=True)
class _Insertion:
    """An INSERT in the driver's words: SQLAlchemy would add half of what SQLite takes.

    Attributes:
        sql: Inserts one row.
        slice_sql: Inserts `SLICE_ROWS` rows, on SQLite: with a statement for each row the driver
            gives the interpreter lock up so often that threads wait for it longer than they work.
        names: What the placeholders stand for.
        conversions: By place, for those columns whose type the driver does not know.
    """

    sql: str
    slice_sql: str | None
    names: tuple[str, ...]
    conversions: tuple[tuple[int, Callable[[Any], Any]], ...]

    def execute(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Insert at most `SLICE_ROWS` rows."""
        pick = itemgetter(*self.names)
        laid_out: list[Any] = []
        for columns in rows:
            values = list(pick(columns))
            for place, convert in self.conversions:
                values[place] = convert(values[place])
            laid_out.append(values)
        if self.slice_sql is not None and len(rows) == SLICE_ROWS:
            connection.exec_driver_sql(self.slice_sql, tuple(chain.from_iterable(laid_out)))
        elif connection.dialect.positional:
            connection.exec_driver_sql(self.sql, [tuple(values) for values in laid_out])
        else:
            named = [dict(zip(self.names, values, strict=True)) for values in laid_out]
            connection.exec_driver_sql(self.sql, named)


@lru_cache(maxsize=64)
def _insertion(dialect: Dialect, table_name: str, columns: tuple[str, ...]) -> _Insertion:
    """Compile what inserts rows that have these `columns`."""
    table = TABLES[table_name]
    # The transaction ends with the statement that fails: SQLite need not be able to undo that one.
    insertion = insertion_into(table, dialect).prefix_with("OR FAIL", dialect="sqlite")
    statement = insertion.on_conflict_do_nothing()
    if table_name == "settlements":
        known, found = table.c.outcome, insertion.excluded.outcome
        expired = literal_column(f"'{EXPIRED}'", String)
        recovered = literal_column(f"'{RECOVERED}'", String)
        statement = insertion.on_conflict_do_update(
            index_elements=[table.c.request_id],
            set_={c.name: insertion.excluded[c.name] for c in table.c if not c.primary_key},
            where=or_(
                and_(known == expired, found != expired),
                and_(known == recovered, found != expired, found != recovered),
            ),
        )
    compiled = statement.compile(dialect=dialect, column_keys=list(columns))
    names = tuple(compiled.positiontup or compiled.params)
    types = (table.c[name].type.dialect_impl(dialect) for name in names)
    conversions = enumerate(type_.bind_processor(dialect) for type_ in types)
    one = f"({', '.join('?' * len(names))})"
    takes_slices = dialect.name == "sqlite" and sqlite3.sqlite_version_info >= MANY_VALUES_SQLITE
    return _Insertion(
        compiled.string,
        compiled.string.replace(one, ", ".join([one] * SLICE_ROWS)) if takes_slices else None,
        names,
        tuple((place, convert) for place, convert in conversions if convert is not None),
    )


def _filled(names: tuple[str, ...], rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Leave out the columns that no row fills: SQLite's driver takes longest over None."""
    empty = set(names)
    for columns in rows:
        empty = {name for name in empty if columns[name] is None}
    return tuple(name for name in names if name not in empty)


def _request_id(columns: dict[str, Any]) -> str:
    return str(columns["request_id"])


def _slices(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), SLICE_ROWS):
        yield rows[start : start + SLICE_ROWS]
