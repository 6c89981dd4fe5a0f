"""What was spent, by whom and on what: exact sums over the log, in nano-USD.

Every turn counts once, by its row in the log. Calls that are no turns (embeddings and the like),
and turns whose row is gone or never came, count by the journal of budgets. The gateway's own second
answers are of the team ``@judge``, which pays for them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal, get_args

from sqlalchemy import (
    ColumnElement,
    Dialect,
    Engine,
    Select,
    String,
    case,
    func,
    literal,
    null,
    select,
    tuple_,
    union_all,
)

from budget.ledger.amounts import NUSD_PER_USD
from migrations.tables import SETTLEMENTS, TURNS

By = Literal["team", "key", "user", "model", "task", "day"]
EVERY: Final[tuple[By, ...]] = get_args(By)
SUMS: Final = (
    "requests",
    "refused",
    "prompt_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "completion_tokens",
    "estimated_nusd",
    "cost_nusd",
)
NOT_SPENT: Final = ("opening", "reset")
"""Outcomes of rows of the journal that sum up others, or take back what a counter shows."""
OWN_TEAM: Final = "@judge"
REQUEST_ID_CHARS: Final = 36
"""The rows of a turn's further reservations have a number behind its request id."""


@dataclass(frozen=True, slots=True)
class Spending:
    """What to add up.

    Attributes:
        by: What makes a row; at least one, each once.
        since: Begun at or after this time; `until` before this one. None means no bound.
        where: Only rows with these values, by name.
    """

    by: Sequence[By] = ("team",)
    since: Any = None
    until: Any = None
    where: Mapping[By, str] | None = None

    def query(self, dialect: Dialect) -> Select[Any]:
        """Select a row for each combination of `by`, in their order, with the sums.

        Empty text stands for what is not known: the user of a request that names none.
        """
        each = union_all(_of_turns(self, dialect), _of_journal(self, dialect)).subquery("spent")
        groups = [each.c[name] for name in self.by]
        sums = [func.coalesce(func.sum(each.c[name]), 0).label(name) for name in SUMS]
        query = select(*groups, *sums).group_by(*groups).order_by(*groups)
        for name, value in (self.where or {}).items():
            query = query.where(each.c[name] == value)
        return query


def spend(
    engine: Engine,
    spending: Spending,
    *,
    after: Sequence[str] | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Return the rows in the order of what makes them; sums are whole numbers.

    Args:
        after: What makes the last row of the page before.
        limit: Most rows to return.
    """
    query = spending.query(engine.dialect).limit(limit)
    if after is not None:
        groups = list(query.selected_columns)[: len(spending.by)]
        query = query.where(tuple_(*groups) > tuple_(*(literal(value) for value in after)))
    with engine.connect() as connection:
        rows = connection.execute(query).mappings()
        return [
            {name: int(value) if name in SUMS else value for name, value in row.items()}
            for row in rows
        ]


def parse_by(text: str) -> tuple[By, ...]:
    """Read names between commas, such as ``team,model``.

    Raises:
        ValueError: One is unknown or comes twice, or there is none; says which there are.
    """
    names = tuple(name.strip() for name in text.split(","))
    found = tuple(each for name in names for each in EVERY if each == name)
    if len(found) != len(names) or len(set(names)) != len(names):
        raise ValueError(f"give names of {', '.join(EVERY)} between commas, each once")
    return found


def total(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add rows up."""
    return {name: sum(row[name] for row in rows) for name in SUMS}


def usd(nusd: int) -> str:
    """Write nano-USD as USD, exactly."""
    return f"{Decimal(nusd) / NUSD_PER_USD:.9f}"


def _of_turns(spending: Spending, dialect: Dialect) -> Select[Any]:
    turns = TURNS.c
    cost = func.coalesce(turns.cost_nusd, 0) + func.coalesce(turns.given_up_nusd, 0)
    columns = {
        "team": case((turns.route_reason == "shadow", OWN_TEAM), else_=turns.team_id),
        "key": turns.key_id,
        "user": turns.user_digest,
        "model": turns.served_model,
        "task": turns.metadata["task"].as_string(),
        "day": _day(turns.started_at, dialect),
        "requests": literal(1),
        "refused": case((turns.served_model.is_(None), 1), else_=0),
        "prompt_tokens": turns.prompt_tokens,
        "cached_tokens": turns.cached_tokens,
        "cache_write_tokens": turns.cache_write_tokens,
        "completion_tokens": turns.completion_tokens,
        "estimated_nusd": case((turns.is_estimated.is_(True), cost), else_=0),
        "cost_nusd": cost,
    }
    return _within(_named(columns), turns.started_at, spending)


def _of_journal(spending: Spending, dialect: Dialect) -> Select[Any]:
    rows = SETTLEMENTS.c
    of_turn = func.substr(rows.request_id, 1, REQUEST_ID_CHARS)
    has_turn = select(TURNS.c.request_id).where(TURNS.c.request_id == of_turn).exists()
    columns = {
        "team": rows.team_id,
        "key": rows.key_id,
        "user": rows.user_digest,
        "model": rows.model,
        "task": null(),
        "day": _day(rows.reserved_at, dialect),
        "requests": case((rows.request_id == of_turn, rows.charged_requests), else_=0),
        "refused": literal(0),
        "prompt_tokens": rows.charged_tokens - rows.charged_output_tokens,
        "cached_tokens": literal(0),
        "cache_write_tokens": literal(0),
        "completion_tokens": rows.charged_output_tokens,
        "estimated_nusd": case((rows.is_estimated.is_(True), rows.charged_nusd), else_=0),
        "cost_nusd": rows.charged_nusd,
    }
    query = _named(columns).where(rows.outcome.not_in(NOT_SPENT), ~has_turn)
    return _within(query, rows.reserved_at, spending)


def _named(columns: Mapping[str, ColumnElement[Any]]) -> Select[Any]:
    """Select columns by name; what makes a row is text, empty where it is not known."""
    texts: dict[str, ColumnElement[Any]] = {
        name: func.coalesce(columns[name].cast(String), "") for name in EVERY
    }
    return select(*((texts.get(name, column)).label(name) for name, column in columns.items()))


def _within(query: Select[Any], moment: ColumnElement[Any], spending: Spending) -> Select[Any]:
    if spending.since is not None:
        query = query.where(moment >= spending.since)
    return query if spending.until is None else query.where(moment < spending.until)


def _day(moment: ColumnElement[datetime], dialect: Dialect) -> ColumnElement[Any]:
    """Take the day in UTC, such as ``2026-12-01``; Postgres would take the session's own."""
    if dialect.name == "postgresql":
        return func.to_char(func.timezone("UTC", moment), "YYYY-MM-DD")
    return func.date(moment)
