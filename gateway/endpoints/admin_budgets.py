"""The operators' side of budgets: define them, see what is spent, reset, rebuild, verify, prune."""

import asyncio
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field, model_validator

from budget.ledger.amounts import NUSD_PER_USD
from budget.ledger.types import Measure, ScopeKind, Window
from gateway.access.keys import MAX_PAGE
from gateway.budgets.definitions import MAX_CAP, MAX_SCOPE_ID_CHARS, BudgetDefinitions
from gateway.budgets.operations import BudgetDesk, described
from gateway.endpoints.bodies import Body
from gateway.errors import InvalidRequest

Id = Annotated[str, Field(min_length=1, max_length=128)]
ScopeId = Annotated[str, Field(min_length=1, max_length=MAX_SCOPE_ID_CHARS)]
Cap = Annotated[int, Field(ge=0, le=MAX_CAP, strict=True)]
Usd = Annotated[Decimal, Field(ge=0, le=MAX_CAP // NUSD_PER_USD, decimal_places=9)]
After = Annotated[str | None, Query(max_length=128, description="Last id of the previous page.")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]


class Amount(Body):
    """A cap, in the measure's own unit or in USD."""

    cap: Cap | None = None
    cap_usd: Usd | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "Amount":
        if (self.cap is None) == (self.cap_usd is None):
            raise ValueError("give one of cap and cap_usd")
        return self

    def units(self, measure: Measure) -> int:
        """Return the cap in the measure's unit.

        Raises:
            InvalidRequest: USD for what is not money.
        """
        if self.cap is not None:
            return self.cap
        if measure != "nusd":
            raise InvalidRequest(
                f"cap_usd: a budget of {measure} is not in USD; give cap instead", param="cap_usd"
            )
        return int((self.cap_usd or 0) * NUSD_PER_USD)


class BudgetBody(Amount):
    """A budget to create; without `scope_id` a default for every scope of the kind."""

    team_id: Id | None = None
    scope: ScopeKind
    scope_id: ScopeId | None = None
    measure: Measure
    window: Window


class CounterChoice(Body):
    """Whose counter, where the budget is a default for many."""

    team_id: Id | None = None
    scope_id: ScopeId | None = None


class Reset(CounterChoice):
    """Which counter to reset."""

    dry_run: Annotated[bool, Field(description="Show the counter, and leave it.")] = False


class Age(Body):
    """How old rows must be."""

    older_than_days: Annotated[int, Field(le=36_500)]
    dry_run: Annotated[bool, Field(description="Count the rows, and leave them.")] = False


def budget_endpoints(desk: BudgetDesk) -> APIRouter:
    """Make the endpoints below ``/budgets``; counters are those of `desk`."""
    endpoints = APIRouter(prefix="/budgets", tags=["budgets"])
    _add_definitions(endpoints, BudgetDefinitions(desk.engine))
    _add_counters(endpoints, desk)
    return endpoints


def _add_definitions(endpoints: APIRouter, definitions: BudgetDefinitions) -> None:
    @endpoints.post("", status_code=201)
    def create_budget(body: BudgetBody) -> dict[str, Any]:
        """Create a budget; gateways follow within two seconds."""
        return described(
            definitions.create(
                team_id=body.team_id,
                scope=body.scope,
                scope_id=body.scope_id,
                measure=body.measure,
                window=body.window,
                cap=body.units(body.measure),
            )
        )

    @endpoints.get("")
    def list_budgets(
        team_id: str | None = None,
        scope: ScopeKind | None = None,
        after: After = None,
        limit: Limit = 100,
    ) -> dict[str, Any]:
        """List budgets of one team or all, a page at a time."""
        found = definitions.budgets(team_id=team_id, scope=scope, after=after, limit=limit)
        next_after = found[-1].id if len(found) == limit else None
        return {"data": [described(each) for each in found], "next_after": next_after}

    @endpoints.get("/{budget_id}")
    def show_budget(budget_id: str) -> dict[str, Any]:
        """Show a budget."""
        return described(definitions.budget(budget_id))

    @endpoints.patch("/{budget_id}")
    def raise_budget(budget_id: str, body: Amount) -> dict[str, Any]:
        """Raise or lower a cap; what was spent stays spent."""
        measure = definitions.budget(budget_id).measure
        return described(definitions.set_cap(budget_id, body.units(measure)))

    @endpoints.delete("/{budget_id}")
    def delete_budget(budget_id: str) -> dict[str, Any]:
        """Lift a budget."""
        return described(definitions.delete(budget_id))


def _add_counters(endpoints: APIRouter, desk: BudgetDesk) -> None:
    # Two operators at once would overwrite each other's counters.
    lock = asyncio.Lock()

    @endpoints.get("/{budget_id}/usage")
    async def show_usage(
        budget_id: str,
        team_id: str | None = None,
        scope_id: str | None = None,
        limit: Limit = 100,
    ) -> dict[str, Any]:
        """Show what is spent, held and left; of a default, for those who spent most."""
        return {
            "data": await desk.usage(budget_id, team_id=team_id, scope_id=scope_id, limit=limit)
        }

    @endpoints.post("/{budget_id}/reset")
    async def reset_budget(budget_id: str, body: Reset) -> dict[str, Any]:
        """Set what was spent in this window to 0."""
        async with lock:
            return await desk.reset(
                budget_id, team_id=body.team_id, scope_id=body.scope_id, dry_run=body.dry_run
            )

    @endpoints.post("/rebuild")
    async def rebuild_counters() -> dict[str, Any]:
        """Set live counters to what the journal says."""
        async with lock:
            return await desk.rebuild()

    @endpoints.post("/prune")
    async def prune_journal(body: Age) -> dict[str, Any]:
        """Fold old journal rows into opening rows; what the journal adds up to stays the same."""
        async with lock:
            return await desk.prune(body.older_than_days, dry_run=body.dry_run)

    @endpoints.post("/verify")
    async def verify_counters() -> dict[str, Any]:
        """Compare live counters with the journal."""
        return await desk.verify()
