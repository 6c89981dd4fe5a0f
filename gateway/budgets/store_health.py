"""Whether the store of the counters answers, known before a caller finds out."""

import logging
from dataclasses import dataclass, field
from typing import Final

from budget.errors import LedgerUnavailable
from budget.ledger.store import LedgerStore
from budget.ledger.types import Limit, Scope

PERIOD_S: Final = 2.0
ASKED: Final = Limit(Scope("@health", "team"), "requests", "total", 1)
"""A counter that nobody uses."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class StoreHealth:
    """Asks the store again and again.

    Attributes:
        has_answered: At least once since the start.
        is_down: It did not answer the last time.
    """

    store: LedgerStore
    has_answered: bool = field(default=False, init=False)
    is_down: bool = field(default=False, init=False)

    async def refresh(self) -> bool:
        """Ask once; the log has the reason once, and that it is over."""
        try:
            await self.store.standings([ASKED])
        except LedgerUnavailable as error:
            if not self.is_down:
                cause = error.__cause__ or error
                _log.error(
                    "budgets cannot be checked: the store of the counters is down: %s: %s",
                    *(type(cause).__name__, cause),
                )
            self.is_down = True
            return False
        if self.is_down:
            _log.warning("budgets are checked again: the store of the counters answers")
        self.has_answered, self.is_down = True, False
        return True
