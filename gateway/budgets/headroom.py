"""How much of each budget is used, for metrics; read in the background, not by requests."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy.exc import SQLAlchemyError

from budget.errors import LedgerUnavailable
from budget.ledger.amounts import NUSD_PER_USD
from budget.ledger.store import LedgerStore
from budget.ledger.types import Limit, ScopeKind, Standing
from gateway.budgets.definitions import BudgetDefinition, BudgetDefinitions
from gateway.budgets.journal import Charged, standings_of

PERIOD_S: Final = 15.0
MOST_TOLD: Final = 200
"""So that the number of series is bounded, whatever operators define."""
KINDS: Final[tuple[ScopeKind, ...]] = ("team", "key", "user", "conversation")
"""Those of the first kind are told first."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Headroom:
    """Looks where budgets stand that have one counter each, which defaults for many have not.

    Attributes:
        told: The budgets with their standings, as of the last look that succeeded.
    """

    definitions: BudgetDefinitions
    store: LedgerStore
    told: tuple[tuple[BudgetDefinition, Standing], ...] = field(default=(), init=False)

    async def refresh(self) -> None:
        """Look once; where database or store do not answer, what was told stays."""
        try:
            found = await asyncio.to_thread(self._counted)
            limits = [Charged(limit, 0) for _, limit in found]
            standings = await standings_of(self.store, limits)
        except (SQLAlchemyError, LedgerUnavailable, OSError) as error:
            _log.debug("where budgets stand is not known now: %s", type(error).__name__)
            return
        self.told = tuple(
            (definition, standing)
            for (definition, _), standing in zip(found, standings, strict=True)
        )

    def collect(self) -> Iterable[Metric]:
        """Tell caps and what is used of them, money in USD; of whom is not told, only the id."""
        names = ["budget", "scope", "measure", "window"]
        caps = GaugeMetricFamily(
            "waypost_budget_limit",
            "Cap of a budget, in USD or the measure's own unit.",
            labels=names,
        )
        used = GaugeMetricFamily(
            "waypost_budget_used", "What is spent and held of it in its window.", labels=names
        )
        for budget, standing in self.told:
            is_money = budget.measure == "nusd"
            measure, unit = ("usd", NUSD_PER_USD) if is_money else (budget.measure, 1)
            labels = [budget.id, budget.scope, measure, budget.window]
            caps.add_metric(labels, budget.cap / unit)
            used.add_metric(labels, (standing.spent + standing.held) / unit)
        return caps, used

    def _counted(self) -> list[tuple[BudgetDefinition, Limit]]:
        """List budgets that have one counter each, at most `MOST_TOLD`."""
        found: list[tuple[BudgetDefinition, Limit]] = []
        for kind in KINDS:
            page = self.definitions.budgets(scope=kind, limit=MOST_TOLD)
            while page and len(found) < MOST_TOLD:
                found += [(each, limit) for each in page if (limit := _limit_of(each)) is not None]
                page = self.definitions.budgets(scope=kind, after=page[-1].id, limit=MOST_TOLD)
        return found[:MOST_TOLD]


def _limit_of(definition: BudgetDefinition) -> Limit | None:
    scope = definition.counted_scope()
    if scope is None:
        return None
    return Limit(scope, definition.measure, definition.window, definition.cap)
