"""Lays records out as rows: a turn, a grade, a settlement, a stored response."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final

import numpy as np
import orjson
from sqlalchemy import String

from budget.ledger.settlements import SettlementRecord
from gateway.candidate_records import Candidates
from gateway.evaluation_log.exchange import Messages
from gateway.evaluation_log.grades import GradeRecord
from gateway.evaluation_log.stored_responses import ResponseRecord
from gateway.storage.database import JSON_OPTIONS
from gateway.storage.rows import Row
from gateway.types import TurnRecord, Usage
from migrations.tables import TURNS
from router_models.types import Float32

_LOGGED: Final = (
    "model",
    "quality",
    "cost_usd",
    "utility",
    "propensity",
    "is_eligible",
    "verdict",
)
"""Of each candidate."""
_OFTEN_SAME: Final = frozenset(_LOGGED) - {"model"}
MAX_ID_CHARS = 512
"""Longer ids from outside are cut: Postgres indexes 2,704 bytes at most."""


def to_row(record: TurnRecord | GradeRecord | SettlementRecord | ResponseRecord) -> Row:
    """Lay `record` out as columns."""
    if isinstance(record, GradeRecord):
        return _grade_row(record)
    if isinstance(record, SettlementRecord):
        return _settlement_row(record)
    if isinstance(record, ResponseRecord):
        return _response_row(record)
    return Row("turns", _turn_columns(record))


def _turn_columns(record: TurnRecord) -> dict[str, Any]:
    """Take each column of `turns` from the field of that name."""
    columns = dict(zip(_SAME_NAMED, _read_same_named(record), strict=True))
    columns["started_at"] = datetime.fromtimestamp(record.started_at_unix_s, UTC)
    usage = _NO_USAGE if record.usage is None else _read_usage(record.usage)
    columns.update(zip(_OF_USAGE, usage, strict=True))
    texts = "".join(filter(None, _read_texts(record)))
    if "\x00" in texts or not texts.isascii():
        for name in _TEXTS:
            columns[name] = storable(columns[name])
    for name, convert in _CONVERSIONS.items():
        value = columns[name]
        if value is not None:
            columns[name] = convert(value)
    return columns


def _embedding_bytes(embedding: Float32) -> bytes:
    return np.asarray(embedding, "<f4").tobytes()


def _candidates_json(candidates: Candidates) -> orjson.Fragment:
    """Write the candidates as JSON, by column; one value where all have the same."""
    columns = {
        name: values[0] if name in _OFTEN_SAME and _are_same(values) else values
        for name in _LOGGED
        for values in (candidates.column(name),)
    }
    return orjson.Fragment(orjson.dumps(columns, option=JSON_OPTIONS))


def _are_same(values: Sequence[Any]) -> bool:
    return len(values) > 0 and values.count(values[0]) == len(values)


def _grade_row(grade: GradeRecord) -> Row:
    columns = {
        "id": grade.grade_id,
        "answer_id": _short(grade.answer_id),
        "team_id": grade.team_id,
        "grader": storable(grade.grader),
        "source": grade.source,
        "score": float(grade.score),
        "weight": float(grade.weight),
        "version": storable(grade.version),
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


def _response_row(response: ResponseRecord) -> Row:
    columns = {
        "team_id": response.team_id,
        "id": _short(response.response_id),
        "previous_id": _short(response.previous_id),
        "created_at": datetime.fromtimestamp(response.created_at_unix_s, UTC),
        "n_bytes": response.n_bytes,
        "input": response.input,
        "response": response.response,
        "conversation_id": response.conversation_id,
    }
    return Row("stored_responses", columns)


def storable(value: str | None) -> str | None:
    """Replace what Postgres or UTF-8 cannot hold: U+0000 and lone surrogates."""
    if value is None:
        return None
    if "\x00" in value:
        value = value.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode("utf-8")
    return value


def _storable_messages(messages: Messages) -> list[dict[str, str | None]]:
    return [{name: storable(text) for name, text in one.items()} for one in messages]


def _short(value: str | None) -> str | None:
    return None if value is None else storable(value[:MAX_ID_CHARS])


# What is odd about a report is counted and not kept.
_OF_USAGE: Final = tuple(field.name for field in fields(Usage) if field.name != "doubt")
_NO_USAGE: Final = (None,) * len(_OF_USAGE)
# SQLAlchemy's names are of a class of their own, which JSON does not take for keys.
_SAME_NAMED: Final = tuple(
    str(column.name) for column in TURNS.c if column.name not in {"started_at", *_OF_USAGE}
)
_read_same_named: Final = attrgetter(*_SAME_NAMED)
_read_usage: Final = attrgetter(*_OF_USAGE)
_CONVERSIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "answer_id": _short,
    "conversation_id": _short,
    "query_embedding": _embedding_bytes,
    "candidates": _candidates_json,
    "propensity": float,
    "messages": _storable_messages,
}
_TEXTS: Final = tuple(
    name
    for name in _SAME_NAMED
    if isinstance(TURNS.c[name].type, String) and name not in _CONVERSIONS
)
"""All of them, so that no new one can bring in what Postgres refuses."""
_read_texts: Final = attrgetter(*_TEXTS)
