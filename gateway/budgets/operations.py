"""What operators do with live counters: look at them, reset, rebuild and verify them."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from budget.ledger.amounts import NUSD_PER_USD
from budget.ledger.settlements import settlement_from_charge
from budget.ledger.store import LedgerStore
from budget.ledger.types import Limit, Standing, UnjournaledCharge
from budget.ledger.windows import DAY_S
from gateway.budgets import journal
from gateway.budgets.book import BudgetRules
from gateway.budgets.definitions import BudgetDefinition, BudgetDefinitions, scope_of
from gateway.budgets.folding import MIN_AGE_DAYS, fold, foldable
from gateway.errors import InvalidRequest
from gateway.evaluation_log.row_layout import to_row
from gateway.storage.database import writing
from gateway.storage.rows import insert_rows

MAX_SHOWN = 500


@dataclass(frozen=True, slots=True)
class BudgetDesk:
    """Operators' view of budgets, in plain values ready for JSON.

    Attributes:
        clock: Unix seconds.
    """

    engine: Engine
    store: LedgerStore
    clock: Callable[[], float]

    async def usage(
        self,
        budget_id: str,
        *,
        team_id: str | None = None,
        scope_id: str | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """Show where a budget stands: of a default, those who spent most in this window.

        Args:
            team_id: Narrows a default of all teams to one.
            scope_id: Narrows a default to one key, user or conversation.

        Raises:
            NotFound: There is no such budget.
            InvalidRequest: It has no counters, or needs `team_id`.
        """
        definition, rules = await self._read(budget_id)
        if definition.scope == "turn":
            raise InvalidRequest("a turn's budget caps one request; there is nothing to count")
        one = _narrowed(definition, rules, team_id, scope_id)
        if one is not None:
            return [shown(standing) for standing in await self.store.standings([one])]
        if definition.measure == "concurrent":
            raise InvalidRequest(
                "scope_id: required, as this budget is a default for many", param="scope_id"
            )
        entries = await asyncio.to_thread(self._spenders, definition, team_id)
        entries = entries[: min(limit, MAX_SHOWN)]
        return [shown(standing) for standing in await journal.standings_of(self.store, entries)]

    async def reset(
        self,
        budget_id: str,
        *,
        team_id: str | None = None,
        scope_id: str | None = None,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Set what was spent in the current window to 0, and journal that.

        Args:
            dry_run: Show the counter that would be reset, and leave it as it is.

        Raises:
            NotFound: There is no such budget.
            InvalidRequest: It has no counter, or it has many and no scope is named.
        """
        definition, rules = await self._read(budget_id)
        if definition.scope == "turn" or definition.measure == "concurrent":
            raise InvalidRequest("this budget counts nothing that lasts; there is nothing to reset")
        one = _narrowed(definition, rules, team_id, scope_id)
        if one is None:
            raise InvalidRequest(
                "this budget is a default for many: say whose counter by scope_id (--id), and for "
                "a default of all teams by team_id (--team) too",
                param="scope_id",
            )
        if not dry_run:
            await journal.reset(self.engine, self.store, one, self.clock())
        return shown((await self.store.standings([one]))[0])

    async def rebuild(self) -> dict[str, Any]:
        """Set live counters to what the journal says."""
        expired = await self._collect()
        counters = await journal.rebuild(self.engine, self.store, self.clock())
        return {"counters": counters, "expired_leases": expired}

    async def verify(self) -> dict[str, Any]:
        """Compare live counters with the journal."""
        expired = await self._collect()
        found = await journal.verify(self.engine, self.store, self.clock())
        differences = [
            {
                **_limit(each.limit),
                "counted": each.counted,
                "journaled": each.journaled,
            }
            for each in found
        ]
        return {"differences": differences, "expired_leases": expired}

    async def prune(self, older_than_days: int, *, dry_run: bool = False) -> dict[str, Any]:
        """Fold old journal rows into opening rows; what the journal adds up to stays the same.

        Args:
            dry_run: Count the rows, and leave them as they are.

        Raises:
            InvalidRequest: Rows that young may count in a window that has not ended.
        """
        if older_than_days < MIN_AGE_DAYS:
            raise InvalidRequest(
                f"older_than_days: at least {MIN_AGE_DAYS}: younger rows may count this month",
                param="older_than_days",
            )
        if dry_run:
            before = self.clock() - older_than_days * DAY_S
            return {"folded_rows": await asyncio.to_thread(foldable, self.engine, before)}
        expired = await self._collect()  # told later, a folded charge would be journaled again
        now, folded = self.clock(), 0
        before = now - older_than_days * DAY_S
        while count := await asyncio.to_thread(fold, self.engine, before, now):
            folded += count
        return {"folded_rows": folded, "expired_leases": expired}

    async def _read(self, budget_id: str) -> tuple[BudgetDefinition, BudgetRules]:
        definitions = BudgetDefinitions(self.engine)
        definition = await asyncio.to_thread(definitions.budget, budget_id)
        every = await asyncio.to_thread(journal.read_definitions, self.engine)
        return definition, BudgetRules(every)

    def _spenders(self, definition: BudgetDefinition, team_id: str | None) -> list[journal.Charged]:
        every = journal.read_definitions(self.engine)
        wanted = team_id or definition.team_id
        entries = [
            entry
            for entry in journal.charged(self.engine, every, self.clock())
            if (entry.limit.scope.kind, entry.limit.measure, entry.limit.window)
            == (definition.scope, definition.measure, definition.window)
            and wanted in (None, entry.limit.scope.team_id)
        ]
        return sorted(entries, key=lambda entry: -entry.spent)

    async def _collect(self) -> int:
        """Journal what gateways that died have left, of every team that has budgets.

        Returns:
            How many of these leases had expired.
        """
        expired = 0
        for team_id in await asyncio.to_thread(journal.capped_teams, self.engine):
            while found := await self.store.reap(team_id):
                await asyncio.to_thread(self._write, found)
                await self.store.acknowledge(team_id, found)
                expired += sum(charge.is_expired for charge in found)
        return expired

    def _write(self, found: Iterable[UnjournaledCharge]) -> None:
        rows = [to_row(settlement_from_charge(charge, self.clock())) for charge in found]
        with writing(self.engine) as connection:
            insert_rows(connection, rows)


def described(definition: BudgetDefinition) -> dict[str, Any]:
    """Lay a definition out for JSON."""
    values = {name: getattr(definition, name) for name in BudgetDefinition.__slots__}
    return values | _usd(definition.measure, cap=definition.cap)


def shown(standing: Standing) -> dict[str, Any]:
    """Lay a standing out for JSON; users and conversations are named by digest."""
    amounts = {
        "cap": standing.limit.cap,
        "spent": standing.spent,
        "held": standing.held,
        "remaining": standing.remaining,
    }
    return {
        **_limit(standing.limit),
        **amounts,
        **_usd(standing.limit.measure, **amounts),
        "resets_in_s": standing.resets_in_s,
    }


def _limit(limit: Limit) -> dict[str, Any]:
    return {
        "team_id": limit.scope.team_id,
        "scope": limit.scope.kind,
        "scope_id": limit.scope.id or None,
        "measure": limit.measure,
        "window": limit.window,
    }


def _usd(measure: str, **amounts: int) -> dict[str, float]:
    if measure != "nusd":
        return {}
    return {f"{name}_usd": amount / NUSD_PER_USD for name, amount in amounts.items()}


def _narrowed(
    definition: BudgetDefinition, rules: BudgetRules, team_id: str | None, scope_id: str | None
) -> Limit | None:
    """Find the one limit meant; None where a default means many.

    Raises:
        InvalidRequest: A choice does not apply to this budget. To leave it out of account would
            show or reset another counter than was meant.
    """
    if team_id is not None and definition.team_id not in (None, team_id):
        raise InvalidRequest(
            f"team_id (--team): this budget is of the team {definition.team_id!r}, not {team_id!r}",
            param="team_id",
        )
    if scope_id is not None and definition.scope == "team":
        raise InvalidRequest(
            "scope_id (--id): this budget counts what a whole team spends, nobody's apart",
            param="scope_id",
        )
    if scope_id is not None and definition.scope_id not in (None, scope_id):
        raise InvalidRequest(
            f"scope_id (--id): this budget is of the {definition.scope} {definition.scope_id!r}, "
            f"not {scope_id!r}",
            param="scope_id",
        )
    scope = definition.counted_scope()
    team_id = definition.team_id or team_id
    if scope is None and team_id is not None and (definition.scope == "team" or scope_id):
        scope = scope_of(team_id, definition.scope, scope_id or "")
    if scope is None:
        return None
    for limit in rules.limits(scope):
        if (limit.measure, limit.window) == (definition.measure, definition.window):
            return limit
    return None
