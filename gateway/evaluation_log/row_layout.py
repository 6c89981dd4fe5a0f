"""Lays records out as rows: a turn, a grade, a settlement."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import orjson

from budget.ledger.settlements import SettlementRecord
from gateway.evaluation_log.exchange import Messages
from gateway.evaluation_log.grades import GradeRecord
from gateway.storage.database import JSON_OPTIONS
from gateway.storage.rows import Row
from gateway.types import CandidateRecord, TurnRecord

MAX_ID_CHARS = 512
"""Longer ids from outside are cut: Postgres indexes 2,704 bytes at most."""


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


def _short(value: str | None) -> str | None:
    return None if value is None else storable(value[:MAX_ID_CHARS])
