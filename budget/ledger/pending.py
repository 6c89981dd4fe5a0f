"""What the store still has to be told: settlements that could not reach it, caught up later."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from budget.errors import LedgerUnavailable
from budget.ledger.settlements import Lease, SettlementRecord
from budget.ledger.store import LedgerStore
from budget.ledger.types import Charge, Granted, Hold, Limit
from budget.ledger.windows import window_start

MAX_PENDING: Final = 100_000
NO_CAP: Final = 2**53 - 1
CATCH_UP_LEASE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class PendingSettlement:
    """One settlement that the store has not confirmed.

    Attributes:
        limits: None where the store held the worst case (or may have); else what to charge.
        record: Journaled once the store confirms; None where it is journaled already.
    """

    lease: Lease
    charge: Charge
    limits: tuple[Limit, ...] | None = None
    record: SettlementRecord | None = None


class PendingSettlements:
    """Settlements that wait for the store; for one event loop.

    Attributes:
        dropped: Forgotten because there were too many, or refused by the store; they are in the
            journal, so `waypost budgets rebuild` counts them.
    """

    def __init__(
        self,
        store: LedgerStore,
        journal: Callable[[SettlementRecord], None],
        clock: Callable[[], float],
    ) -> None:
        self.dropped = 0
        self._store = store
        self._journal = journal
        self._clock = clock
        self._waiting: deque[PendingSettlement] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, debt: PendingSettlement) -> None:
        """Keep `debt` for later."""
        if len(self._waiting) >= MAX_PENDING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(debt)

    async def catch_up(self) -> None:
        """Tell the store all that waits, oldest first.

        Raises:
            LedgerUnavailable: It is still down; what is left goes on waiting.
        """
        while self._waiting:
            debt = self._waiting.popleft()
            try:
                is_new = await self._pay(debt)
            except (LedgerUnavailable, asyncio.CancelledError):
                self._waiting.appendleft(debt)
                raise
            except Exception:
                self.dropped += 1
                raise
            if is_new and debt.record is not None:
                self._journal(debt.record)

    async def _pay(self, debt: PendingSettlement) -> bool:
        """Charge one debt; False where the store knew of it, or never held it."""
        lease, charge = debt.lease, debt.charge
        name = lease.idempotency_key
        if debt.limits is not None:
            name = lease.late_idempotency_key
            if not await self._hold_unchecked(debt, debt.limits):
                return False
        return await self._store.settle(
            lease.team_id, name, charge.nusd, charge.tokens, charge.output
        )

    async def _hold_unchecked(self, debt: PendingSettlement, limits: tuple[Limit, ...]) -> bool:
        """Hold, with the caps lifted, what was served while nothing could be held.

        Windows that have ended since are left out: their counters are gone.
        """
        now, then = self._clock(), debt.lease.reserved_at_unix_s
        current = tuple(
            replace(limit, cap=NO_CAP)
            for limit in limits
            if limit.measure != "concurrent"
            and window_start(limit.window, now) == window_start(limit.window, then)
        )
        if not current:
            return False
        hold = Hold(
            request_id=debt.lease.late_idempotency_key,
            limits=current,
            fixed_nusd=debt.charge.nusd,
            fixed_tokens=debt.charge.tokens,
            completion_nusd_per_mtok=0,
            min_completion_tokens=0,
            max_completion_tokens=0,
            lease_s=CATCH_UP_LEASE_S,
        )
        try:
            return isinstance(await self._store.reserve(hold), Granted)
        except ValueError:
            return False  # charged already; the answer that said so was lost
