"""What the log knows of one turn: which model, why, what it cost, how long it took."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, or_, select

from gateway.evaluation_log.grades import ANSWER_IDS
from migrations.tables import GRADES, SETTLEMENTS, TURNS

MOST_FOUND: Final = 50
"""Of the turns of one trace."""
MOST_ATTEMPTS: Final = 100
"""A call that is made again after one that may be billed has a reservation named by its attempt."""
WHY: Final[Mapping[str, str]] = {
    "router": "the router expected most of it: quality less cost at the willingness to pay",
    "explored": "it was drawn to learn from, with the propensity that is given",
    "named": "the caller named it",
    "router_missing": "no router serves, so the default model answers",
    "router_failed": "the router failed, so the default model answers",
    "not_in_router": "the router knows none of the models that could answer",
    "shadow": "a second answer, drawn to learn from; no caller saw it",
    "refused": "the request was refused before a model was chosen",
}
_RETRIED: Final = re.compile(r"(req_[0-9a-f]{32})-\d+")
_BARE: Final = re.compile(r"[0-9a-f]{32}")
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "usage": (
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "cache_write_1h_tokens",
        "reasoning_tokens",
        "is_estimated",
    ),
    "turn_budget": (
        "policy_version",
        "budget_tokens",
        "proposed_tokens",
        "allotted_tokens",
        "policy_propensity",
    ),
    "times": ("gateway_s", "first_byte_s", "latency_s"),
    "outcome": ("is_stream", "finish_reason", "error", "attempts"),
}
_IDS: Final = ("request_id", "decision_id", "answer_id", "trace_id", "conversation_id")
_WHOSE: Final = ("team_id", "key_id", "user_digest", "turn_index", "metadata")
_ROUTE: Final = (
    "requested_model",
    "chosen_model",
    "served_model",
    "provider",
    "route_reason",
    "propensity",
    "router_version",
    "willingness_to_pay_usd",
    "data_rules",
    "candidates",
)
_SHOWN: Final = (*_IDS, *_WHOSE, *_ROUTE, "started_at", "cost_nusd", "given_up_nusd")
_SETTLEMENT: Final = (
    "request_id",
    "model",
    "outcome",
    "held_nusd",
    "charged_nusd",
    "is_estimated",
    "reserved_at",
    "settled_at",
)
_GRADE: Final = ("source", "grader", "score", "weight", "version", "created_at")


def find_turns(engine: Engine, an_id: str) -> list[dict[str, Any]]:
    """Return the turns that have an id, the newest first, as plain values; at most `MOST_FOUND`.

    Texts stay out. Calls that are no turns, such as embeddings, are found by their request id, with
    what the journal of budgets says of them.

    Args:
        an_id: Of a request (with or without ``req_``, also as an upstream was sent it), a decision,
            an answer, or a trace.
    """
    retried = _RETRIED.fullmatch(an_id)
    wanted = an_id if retried is None else retried[1]
    with engine.connect() as connection:
        found = connection.execute(query_of(wanted)).mappings().all()
        if found:
            return [_shown(connection, turn) for turn in found]
        settled = _settlements(connection, [wanted])
    if not settled:
        return []
    first = settled[0]
    whose = {name: first.pop(name) for name in ("team_id", "key_id", "user_digest")}
    return [{"request_id": wanted, **whose, "money": _money(None, 0, settled)}]


def query_of(an_id: str) -> Any:
    """Select by each id in turn; every one has its index."""
    matches: list[ColumnElement[bool]] = [column == an_id for column in ANSWER_IDS]
    matches.append(TURNS.c.trace_id == an_id)
    if _BARE.fullmatch(an_id):
        matches.append(TURNS.c.request_id == f"req_{an_id}")
    names = dict.fromkeys((*_SHOWN, *(name for names in _PARTS.values() for name in names)))
    newest = (TURNS.c.started_at.desc(), TURNS.c.request_id.desc())
    columns = (TURNS.c[name] for name in names)
    return select(*columns).where(or_(*matches)).order_by(*newest).limit(MOST_FOUND)


def _shown(connection: Connection, turn: RowMapping) -> dict[str, Any]:
    name = turn["request_id"]
    attempts = range(1, min(turn["attempts"], MOST_ATTEMPTS) + 1)
    settled = _settlements(connection, [name, *(f"{name}-{number}" for number in attempts)])
    for each in settled:
        del each["team_id"], each["key_id"], each["user_digest"]
    ids = [turn[column.key] for column in ANSWER_IDS if turn[column.key] is not None]
    grades = connection.execute(
        select(*(GRADES.c[name] for name in _GRADE))
        .where(GRADES.c.answer_id.in_(ids), GRADES.c.team_id == turn["team_id"])
        .order_by(GRADES.c.created_at)
    ).mappings()
    route = _picked(turn, _ROUTE)
    why = WHY.get(turn["route_reason"], turn["route_reason"])
    return {
        **_picked(turn, (*_IDS, "started_at", *_WHOSE)),
        "route": {**route, "why": why},
        "money": _money(turn["cost_nusd"], turn["given_up_nusd"] or 0, settled),
        **{part: _picked(turn, names) for part, names in _PARTS.items()},
        "grades": [dict(grade) for grade in grades],
    }


def _money(
    cost_nusd: int | None, given_up_nusd: int, settled: list[dict[str, Any]]
) -> dict[str, Any]:
    """Say what was charged, by part; `held_nusd` is the most held, None where nothing was."""
    charged = sum(each["charged_nusd"] for each in settled)
    return {
        "charged_nusd": charged if cost_nusd is None else cost_nusd + given_up_nusd,
        "last_call_nusd": cost_nusd,
        "given_up_nusd": given_up_nusd,
        "held_nusd": max((each["held_nusd"] for each in settled), default=None),
        "reservations": settled,
    }


def _settlements(connection: Connection, names_of: list[str]) -> list[dict[str, Any]]:
    names = (*_SETTLEMENT, "team_id", "key_id", "user_digest")
    rows = connection.execute(
        select(*(SETTLEMENTS.c[name] for name in names))
        .where(SETTLEMENTS.c.request_id.in_(names_of))
        .order_by(SETTLEMENTS.c.reserved_at)
    ).mappings()
    return [dict(row) for row in rows]


def _picked(turn: RowMapping, names: Iterable[str]) -> dict[str, Any]:
    return {name: turn[name] for name in names}
