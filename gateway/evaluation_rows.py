"""Evaluation rows on their way to the database: from records, to and from the spool, inserted."""

import base64
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
from sqlalchemy import Connection, Dialect, Table, and_, delete, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.database import JSON_OPTIONS
from gateway.exchange import Messages
from gateway.grades import GradeRecord
from gateway.ledger.settlements import EXPIRED, RECOVERED, SettlementRecord
from gateway.ledger.types import Unjournaled
from gateway.types import CandidateRecord, TurnRecord
from migrations.tables import Base

TABLES: dict[str, Table] = {
    name: Base.metadata.tables[name] for name in ("turns", "grades", "settlements")
}
TIMES = ("started_at", "created_at", "reserved_at", "settled_at")
KEYS = Base.metadata.tables["keys"]
SLICE_ROWS = 50
"""Rows inserted between two chances for the event loop to take the interpreter lock."""
STATEMENT_TIMEOUT_S = 10
PRUNE_ROWS = 1000
PRUNED = (("turns", "request_id", "started_at"), ("grades", "id", "created_at"))
MAX_ID_CHARS = 512
"""Longer ids from outside are cut: Postgres indexes 2,704 bytes at most."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the table it belongs to and its columns.

    Attributes:
        acknowledges: What the ledger's store is told once the row is kept.
    """

    table: str
    columns: dict[str, Any]
    acknowledges: Unjournaled | None = None


def to_row(record: TurnRecord | GradeRecord | SettlementRecord) -> Row:
    """Lay `record` out as columns."""
    if isinstance(record, GradeRecord):
        return _grade_row(record)
    if isinstance(record, SettlementRecord):
        return _settlement_row(record)
    usage = record.usage
    embedding = record.query_embedding
    columns = {
        "request_id": record.request_id,
        "decision_id": record.decision_id,
        "answer_id": _short(record.answer_id),
        "started_at": datetime.fromtimestamp(record.started_at_unix_s, UTC),
        "key_id": record.key_id,
        "team_id": record.team_id,
        "conversation_id": _short(record.conversation_id),
        "turn_index": record.turn_index,
        "requested_model": storable(record.requested_model),
        "chosen_model": record.chosen_model,
        "served_model": record.served_model,
        "provider": record.provider,
        "encoder_id": record.encoder_id,
        "query_embedding": None if embedding is None else np.asarray(embedding, "<f4").tobytes(),
        "query_text": storable(record.query_text),
        "candidates": _candidates_json(record.candidates),
        "propensity": float(record.propensity),
        "route_reason": record.route_reason,
        "router_version": record.router_version,
        "policy_version": record.policy_version,
        "budget_tokens": record.budget_tokens,
        "proposed_tokens": record.proposed_tokens,
        "allotted_tokens": record.allotted_tokens,
        "policy_propensity": record.policy_propensity,
        "willingness_to_pay_usd": record.willingness_to_pay_usd,
        "prompt_tokens": None if usage is None else usage.prompt_tokens,
        "completion_tokens": None if usage is None else usage.completion_tokens,
        "cached_tokens": None if usage is None else usage.cached_tokens,
        "cache_write_tokens": None if usage is None else usage.cache_write_tokens,
        "reasoning_tokens": None if usage is None else usage.reasoning_tokens,
        "is_estimated": None if usage is None else usage.is_estimated,
        "cost_nusd": record.cost_nusd,
        "latency_s": record.latency_s,
        "first_byte_s": record.first_byte_s,
        "gateway_s": record.gateway_s,
        "is_stream": record.is_stream,
        "finish_reason": storable(record.finish_reason),
        "error": storable(record.error),
        "attempts": record.attempts,
        "metadata": record.metadata,
        "messages": _storable_messages(record.messages),
        "answer": storable(record.answer),
    }
    return Row("turns", columns)


def _candidates_json(candidates: Sequence[CandidateRecord]) -> orjson.Fragment:
    """Write the candidates as JSON; as dataclasses with slots orjson takes twice as long."""
    columns = [
        {
            "model": candidate.model,
            "quality": candidate.quality,
            "cost_usd": candidate.cost_usd,
            "utility": candidate.utility,
            "propensity": candidate.propensity,
            "is_eligible": candidate.is_eligible,
            "verdict": candidate.verdict,
        }
        for candidate in candidates
    ]
    return orjson.Fragment(orjson.dumps(columns, option=JSON_OPTIONS))


def storable(value: str | None) -> str | None:
    """Replace what Postgres or UTF-8 cannot hold: U+0000 and lone surrogates."""
    if value is None:
        return None
    if "\x00" in value:
        value = value.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode("utf-8")
    return value


def _storable_messages(messages: Messages | None) -> list[dict[str, str | None]] | None:
    if messages is None:
        return None
    return [{name: storable(text) for name, text in one.items()} for one in messages]


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
            insertion = _insertion(connection.dialect, table, names)
            for part in _slices(list(alike)):
                connection.exec_driver_sql(insertion.sql, insertion.parameters(part))
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


def _grade_row(grade: GradeRecord) -> Row:
    columns = {
        "id": grade.grade_id,
        "answer_id": _short(grade.answer_id),
        "team_id": grade.team_id,
        "grader": storable(grade.grader),
        "source": grade.source,
        "score": float(grade.score),
        "comment": storable(grade.comment),
        "verifier": grade.verifier,
        "created_at": datetime.fromtimestamp(grade.created_at_unix_s, UTC),
    }
    return Row("grades", columns)


def _settlement_row(record: SettlementRecord) -> Row:
    lease = record.lease
    columns = {
        "request_id": lease.request_id,
        "team_id": lease.team_id,
        "key_id": lease.key_id,
        "user_digest": lease.user_digest,
        "conversation_digest": lease.conversation_digest,
        "model": record.model,
        "limits": lease.limits,
        "held_nusd": record.held_nusd,
        "held_tokens": record.held_tokens,
        "charged_nusd": record.charged_nusd,
        "charged_tokens": record.charged_tokens,
        "charged_output_tokens": record.charged_output_tokens,
        "charged_requests": record.charged_requests,
        "is_estimated": record.is_estimated,
        "outcome": record.outcome,
        "reserved_at": datetime.fromtimestamp(lease.reserved_at_unix_s, UTC),
        "settled_at": datetime.fromtimestamp(record.settled_at_unix_s, UTC),
    }
    return Row("settlements", columns, record.acknowledges)


@dataclass(frozen=True, slots=True)
class _Insertion:
    """An INSERT in the driver's words: SQLAlchemy would work on a row as long as SQLite does.

    Attributes:
        sql: With placeholders.
        is_positional: Whether these go by their place, or by name.
        names: Their names.
        constants: Values that are the same for each row.
        conversions: By place, for those columns whose type the driver does not know.
    """

    sql: str
    is_positional: bool
    names: tuple[str, ...]
    constants: dict[str, Any]
    conversions: tuple[tuple[int, Callable[[Any], Any]], ...]

    def parameters(self, rows: Sequence[dict[str, Any]]) -> list[Any]:
        """Lay rows out for the driver."""
        pick = itemgetter(*self.names)
        laid_out: list[Any] = []
        for columns in rows:
            values = list(pick(self.constants | columns))
            for place, convert in self.conversions:
                values[place] = convert(values[place])
            laid_out.append(
                tuple(values) if self.is_positional else dict(zip(self.names, values, strict=True))
            )
        return laid_out


@lru_cache(maxsize=16)
def _insertion(dialect: Dialect, table_name: str, columns: tuple[str, ...]) -> _Insertion:
    """Compile what inserts rows that have these `columns`."""
    table = TABLES[table_name]
    build = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    insertion = build(table)
    statement = insertion.on_conflict_do_nothing()
    if table_name == "settlements":
        known, found = table.c.outcome, insertion.excluded.outcome
        statement = insertion.on_conflict_do_update(
            index_elements=[table.c.request_id],
            set_={c.name: insertion.excluded[c.name] for c in table.c if not c.primary_key},
            where=or_(
                and_(known == EXPIRED, found != EXPIRED),
                and_(known == RECOVERED, found != EXPIRED, found != RECOVERED),
            ),
        )
    compiled = statement.compile(dialect=dialect, column_keys=list(columns))
    names = tuple(compiled.positiontup or compiled.params)
    processors = [
        table.c[name].type.dialect_impl(dialect).bind_processor(dialect)
        if name in columns
        else None
        for name in names
    ]
    return _Insertion(
        compiled.string,
        compiled.positional,
        names,
        {name: value for name, value in compiled.params.items() if name not in columns},
        tuple((place, convert) for place, convert in enumerate(processors) if convert),
    )


def _request_id(columns: dict[str, Any]) -> str:
    return str(columns["request_id"])


def _short(value: str | None) -> str | None:
    return None if value is None else storable(value[:MAX_ID_CHARS])


def _slices(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), SLICE_ROWS):
        yield rows[start : start + SLICE_ROWS]
