"""Whether another gateway counts the same budgets in a memory of its own.

Two that do let callers spend each budget twice, and each reports half. Both start: a rolling update
runs the old one and the new one at a time, and would never end if the new one were refused.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from gateway.budgets.book import BudgetBook
from gateway.storage.lease import Lease, describe, has_ended

LEASE: Final = "counts budgets in memory"
TTL_S: Final = 20.0
PATIENCE_S: Final = 2.0
"""How long a database that hangs holds up the end."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class SoleCounter:
    """Keeps the lease of whoever counts in memory, or knows who has it.

    Attributes:
        book: Nobody is told of another gateway while there is no budget.
        problem: What is wrong, and what to do; None where nothing is.
    """

    lease: Lease
    book: BudgetBook
    problem: str | None = field(default=None, init=False)
    _has_looked: bool = field(default=False, init=False)

    async def refresh(self) -> bool:
        """Take or renew the lease; the log has it once that another has it, and that this is over.

        False where the database does not answer: then what was known last holds.
        """
        try:
            other = await asyncio.to_thread(self._other)
        except SQLAlchemyError:
            return False
        self._has_looked = True
        problem = None if other is None or self.book.is_empty else _explain(other)
        if problem is not None and self.problem is None:
            _log.error("%s", problem)
        if problem is None and self.problem is not None:
            _log.warning("no other gateway counts budgets in memory any more")
        self.problem = problem
        return True

    async def aclose(self) -> None:
        """Give the lease back, so that the next start finds it free."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.to_thread(self.lease.release)
        except (SQLAlchemyError, TimeoutError):
            _log.info("the lease %r runs out by itself", self.lease.name)

    def _other(self) -> str | None:
        """Return who else has the lease; None where this process has it now."""
        if self.lease.take():
            return None
        other = self.lease.current_holder()
        # At the start alone: two that take each other for dead must not go on doing so.
        if other is not None and not self._has_looked and has_ended(other):
            self.lease.take_from(other)
            return None if self.lease.take() else self.lease.current_holder()
        return other


def _explain(other: str) -> str:
    return (
        'budgets.store = "memory", and another gateway counts in its own memory with this '
        f"database ({describe(other)}): each budget can be spent once at each of them. Set "
        'budgets.store = "redis" in all of them, or stop one; one that crashed is forgotten after '
        f"{TTL_S:g} s"
    )
