"""Old rows of the journal, folded into one opening row per total, so that its sums stay exact.

Only totals outlast their rows: every other window has ended. A running gateway may go on writing.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Engine, RowMapping, delete, func, select

from budget.ledger.settlements import parse_limit_codes
from gateway.budgets.journal import OWNERS, SUMMED
from gateway.storage.database import insertion_into, writing
from migrations.tables import SETTLEMENTS

MIN_AGE_DAYS: Final = 32
"""Every window of a row this old has ended, but `total`."""
FOLDED_AT_ONCE: Final = 1000
OPENING: Final = "opening"


def foldable(engine: Engine, before_unix_s: float) -> int:
    """Count the rows from before a time."""
    before = datetime.fromtimestamp(before_unix_s, UTC)
    query = select(func.count()).where(SETTLEMENTS.c.reserved_at < before)
    with engine.connect() as connection:
        return int(connection.execute(query).scalar_one())


def fold(
    engine: Engine, before_unix_s: float, now_unix_s: float, max_rows: int = FOLDED_AT_ONCE
) -> int:
    """Fold the oldest rows from before a time, at most `max_rows`; returns how many."""
    before = datetime.fromtimestamp(before_unix_s, UTC)
    insertion = insertion_into(SETTLEMENTS, engine.dialect)
    added = {column.name: column + insertion.excluded[column.name] for column in SUMMED.values()}
    newer = {name: insertion.excluded[name] for name in ("reserved_at", "settled_at")}
    with writing(engine) as connection:
        rows = (
            connection.execute(
                select(SETTLEMENTS)
                .where(SETTLEMENTS.c.reserved_at < before)
                .order_by(SETTLEMENTS.c.reserved_at)
                .limit(max_rows)
                .with_for_update(skip_locked=True)
            )
            .mappings()
            .all()
        )
        folded = [row["request_id"] for row in rows]
        connection.execute(delete(SETTLEMENTS).where(SETTLEMENTS.c.request_id.in_(folded)))
        if openings := _openings(rows, datetime.fromtimestamp(now_unix_s, UTC)):
            statement = insertion.on_conflict_do_update(
                index_elements=[SETTLEMENTS.c.request_id], set_=added | newer
            )
            connection.execute(statement, openings)
    return len(rows)


def _openings(rows: Iterable[RowMapping], now: datetime) -> list[dict[str, Any]]:
    """Sum rows up by scope and measure, each in a row charged to that total alone.

    Openings that are old themselves are summed up like any other row. They come in one order, so
    that two who fold never deadlock.
    """
    openings: dict[str, dict[str, Any]] = {}
    for row in rows:
        for code, (kind, measure, window) in parse_limit_codes(row["limits"]).items():
            if window != "total":
                continue
            owner, amount = OWNERS[kind], SUMMED[measure].name
            scope_id = "" if owner is None else row[owner.name]
            named = "\0".join((row["team_id"], code, scope_id))
            request_id = f"{OPENING}_{sha256(named.encode()).hexdigest()[:32]}"
            opening = openings.setdefault(
                request_id, _nothing_charged(request_id, row["team_id"], code, now)
            )
            opening[amount] += row[amount]
            if owner is not None:
                opening[owner.name] = scope_id
    return [openings[request_id] for request_id in sorted(openings)]


def _nothing_charged(request_id: str, team_id: str, code: str, now: datetime) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "team_id": team_id,
        "key_id": "",
        "user_digest": None,
        "conversation_digest": None,
        "model": None,
        "limits": f" {code} ",
        "held_nusd": 0,
        "held_tokens": 0,
        "charged_nusd": 0,
        "charged_tokens": 0,
        "charged_output_tokens": 0,
        "charged_requests": 0,
        "is_estimated": False,
        "outcome": OPENING,
        "reserved_at": now,
        "settled_at": now,
    }
