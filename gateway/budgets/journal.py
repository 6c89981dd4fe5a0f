"""Live counters and the journal of settlements: rebuild the one from the other, or compare them.

The journal is in the database, written off the request path, so it is behind the counters by what
is still queued (`evaluation_log.flush_interval_s`, or an outage). Holds are not in it.
"""

import asyncio
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Column, Engine, Select, func, literal, select

from budget.ledger.settlements import RESET, Lease, SettlementRecord, limit_codes, limit_type_code
from budget.ledger.store import LedgerStore
from budget.ledger.types import Limit, Measure, Scope, ScopeKind, Standing, Window
from budget.ledger.windows import window_start
from gateway.budgets.book import BudgetRules
from gateway.budgets.definitions import BudgetDefinition, BudgetDefinitions
from gateway.evaluation_log.row_layout import to_row
from gateway.storage.database import writing
from gateway.storage.rows import insert_rows
from migrations.tables import BUDGETS, SETTLEMENTS, TEAMS

PAGE = 500
STANDINGS_AT_ONCE = 100
SUMMED: Final[dict[Measure, Column[Any]]] = {
    "nusd": SETTLEMENTS.c.charged_nusd,
    "tokens": SETTLEMENTS.c.charged_tokens,
    "output": SETTLEMENTS.c.charged_output_tokens,
    "requests": SETTLEMENTS.c.charged_requests,
}
OWNERS: Final[dict[ScopeKind, Column[Any] | None]] = {
    "team": None,
    "key": SETTLEMENTS.c.key_id,
    "user": SETTLEMENTS.c.user_digest,
    "conversation": SETTLEMENTS.c.conversation_digest,
}


@dataclass(frozen=True, slots=True)
class Charged:
    """What the journal says was spent under a limit in its current window."""

    limit: Limit
    spent: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A limit whose counter and journal do not agree."""

    limit: Limit
    counted: int
    journaled: int


def read_definitions(engine: Engine) -> list[BudgetDefinition]:
    """Return every budget that holds."""
    store = BudgetDefinitions(engine)
    found: list[BudgetDefinition] = []
    while page := store.budgets(after=found[-1].id if found else None, limit=PAGE):
        found.extend(page)
    return found


def charged(
    engine: Engine, definitions: Iterable[BudgetDefinition], now_unix_s: float
) -> list[Charged]:
    """Add up the journal for every limit that `definitions` set, in the current windows.

    Scopes with a budget of their own are listed even where nothing was spent; of scopes that a
    default covers, those that spent something.
    """
    definitions = list(definitions)
    rules = BudgetRules(definitions)
    spent: dict[tuple[Scope, Measure, Window], int] = {}
    for definition in definitions:
        scope = definition.counted_scope()
        if scope is not None and definition.measure in SUMMED:
            spent[scope, definition.measure, definition.window] = 0
    with engine.connect() as connection:
        for kind, measure, window in _classes(definitions):
            query = _sums(kind, measure, window, now_unix_s)
            for team_id, owner, total in connection.execute(query):
                spent[Scope(team_id, kind, owner), measure, window] = int(total)
    limits = {
        (scope, limit.measure, limit.window): limit
        for scope in {scope for scope, _, _ in spent}
        for limit in rules.limits(scope)
    }
    return [Charged(limits[key], total) for key, total in spent.items() if key in limits]


def capped_teams(engine: Engine) -> list[str]:
    """Name the teams that may have leases: those with budgets, deleted ones too, or all of them."""
    with engine.connect() as connection:
        capped = set(connection.scalars(select(BUDGETS.c.team_id).distinct()))
        if None in capped:
            capped |= set(connection.scalars(select(TEAMS.c.id)))
    return sorted(team_id for team_id in capped if team_id is not None)


async def rebuild(
    engine: Engine,
    store: LedgerStore,
    now_unix_s: float,
    fixed: Sequence[BudgetDefinition] = (),
) -> int:
    """Set live counters to what the journal says; returns how many.

    What is held stays held. Charges that are queued for the journal are missing until they are
    written, so rebuild without traffic, or a flush interval after it.

    Args:
        fixed: Budgets that settings define, not the database.
    """
    sums = await asyncio.to_thread(
        lambda: charged(engine, [*read_definitions(engine), *fixed], now_unix_s)
    )
    for entry in sums:
        await store.overwrite(entry.limit, max(entry.spent, 0))
    return len(sums)


async def verify(engine: Engine, store: LedgerStore, now_unix_s: float) -> list[Difference]:
    """Compare live counters with the journal; returns the limits on which they differ."""
    sums = await asyncio.to_thread(lambda: charged(engine, read_definitions(engine), now_unix_s))
    differences = []
    for entry, standing in zip(sums, await standings_of(store, sums), strict=True):
        if standing.spent != max(entry.spent, 0):
            differences.append(Difference(entry.limit, standing.spent, max(entry.spent, 0)))
    return differences


async def standings_of(store: LedgerStore, entries: list[Charged]) -> list[Standing]:
    """Ask the store where limits stand, each team's by itself, in the order given."""
    found: dict[Limit, Standing] = {}
    by_team: dict[str, list[Limit]] = {}
    for entry in entries:
        by_team.setdefault(entry.limit.scope.team_id, []).append(entry.limit)
    for limits in by_team.values():
        for start in range(0, len(limits), STANDINGS_AT_ONCE):
            for standing in await store.standings(limits[start : start + STANDINGS_AT_ONCE]):
                found[standing.limit] = standing
    return [found[entry.limit] for entry in entries]


async def reset(
    engine: Engine, store: LedgerStore, limit: Limit, now_unix_s: float
) -> SettlementRecord:
    """Set what a limit's scope spent in the current window to 0, and journal that.

    A request that settles at the same moment may be counted on one side only; `verify` shows it.
    """
    standing = (await store.standings([limit]))[0]
    scope = limit.scope
    lease = Lease(
        request_id=f"reset_{secrets.token_hex(12)}",
        team_id=scope.team_id,
        key_id=scope.id if scope.kind == "key" else "",
        user_digest=scope.id if scope.kind == "user" else None,
        conversation_digest=scope.id if scope.kind == "conversation" else None,
        limits=limit_codes([limit]),
        reserved_at_unix_s=now_unix_s,
    )
    record = SettlementRecord(
        lease=lease,
        model=None,
        held_nusd=0,
        held_tokens=0,
        charged_nusd=-standing.spent if limit.measure == "nusd" else 0,
        charged_tokens=-standing.spent if limit.measure == "tokens" else 0,
        charged_output_tokens=-standing.spent if limit.measure == "output" else 0,
        charged_requests=-standing.spent if limit.measure == "requests" else 0,
        is_estimated=False,
        outcome=RESET,
        settled_at_unix_s=now_unix_s,
    )
    await store.overwrite(limit, 0)
    await asyncio.to_thread(_write, engine, record)
    return record


def _write(engine: Engine, record: SettlementRecord) -> None:
    with writing(engine) as connection:
        insert_rows(connection, [to_row(record)])


def _classes(
    definitions: Iterable[BudgetDefinition],
) -> Iterator[tuple[ScopeKind, Measure, Window]]:
    """Name each kind of scope, measure and window that needs a sum, once."""
    classes = {(each.scope, each.measure, each.window) for each in definitions}
    for kind, measure, window in sorted(classes):
        if kind in OWNERS and measure in SUMMED:
            yield kind, measure, window


def _sums(
    kind: ScopeKind, measure: Measure, window: Window, now_unix_s: float
) -> Select[tuple[Any, ...]]:
    """Select team, owner and sum of the rows charged to limits of this class in this window.

    Rows count from when the limit existed: those reserved before were not charged to it.
    """
    owner = OWNERS[kind]
    columns = [SETTLEMENTS.c.team_id] if owner is None else [SETTLEMENTS.c.team_id, owner]
    query = select(
        SETTLEMENTS.c.team_id,
        literal("") if owner is None else owner,
        func.sum(SUMMED[measure]),
    ).where(
        SETTLEMENTS.c.limits.contains(
            f" {limit_type_code(kind, measure, window)} ", autoescape=True
        )
    )
    start = window_start(window, now_unix_s)
    if start:
        query = query.where(SETTLEMENTS.c.reserved_at >= datetime.fromtimestamp(start, UTC))
    return query.group_by(*columns)
