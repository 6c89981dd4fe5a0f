"""Settlements that could not reach the store, and are sent to it later."""

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
    """A queue of settlements that the store has not confirmed; for one event loop.

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
        self._queue: deque[PendingSettlement] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, pending: PendingSettlement) -> None:
        """Queue a settlement; the oldest is dropped where there are too many."""
        if len(self._queue) >= MAX_PENDING:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(pending)

    async def catch_up(self) -> None:
        """Send the store all pending settlements, oldest first.

        Raises:
            LedgerUnavailable: It is still down; the rest stays pending.
        """
        while self._queue:
            pending = self._queue.popleft()
            try:
                is_new = await self._settle(pending)
            except (LedgerUnavailable, asyncio.CancelledError):
                self._queue.appendleft(pending)
                raise
            except Exception:
                self.dropped += 1
                raise
            if is_new and pending.record is not None:
                self._journal(pending.record)

    async def _settle(self, pending: PendingSettlement) -> bool:
        """Charge one settlement; False where the store had charged it, or never held it."""
        lease, charge = pending.lease, pending.charge
        name = lease.idempotency_key
        if pending.limits is not None:
            name = lease.late_idempotency_key
            if not await self._hold_unchecked(pending, pending.limits):
                return False
        return await self._store.settle(
            lease.team_id, name, charge.nusd, charge.tokens, charge.output
        )

    async def _hold_unchecked(self, pending: PendingSettlement, limits: tuple[Limit, ...]) -> bool:
        """Reserve, without caps, for a request that was served while the store was down.

        Windows that have ended since are left out: their counters are gone.
        """
        now, then = self._clock(), pending.lease.reserved_at_unix_s
        current = tuple(
            replace(limit, cap=NO_CAP)
            for limit in limits
            if limit.measure != "concurrent"
            and window_start(limit.window, now) == window_start(limit.window, then)
        )
        if not current:
            return False
        hold = Hold(
            request_id=pending.lease.late_idempotency_key,
            limits=current,
            fixed_nusd=pending.charge.nusd,
            fixed_tokens=pending.charge.tokens,
            completion_nusd_per_mtok=0,
            min_completion_tokens=0,
            max_completion_tokens=0,
            lease_s=CATCH_UP_LEASE_S,
        )
        try:
            return isinstance(await self._store.reserve(hold), Granted)
        except ValueError:
            return False  # charged already; the answer that said so was lost
