"""Leases of running requests, renewed so that none expires before its request ends."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from budget.ledger.counters import LedgerCounters
from budget.ledger.settlements import Lease
from budget.ledger.store import LedgerStore

RENEWAL_BATCH = 64


@dataclass(slots=True)
class _Running:
    """A lease whose request runs; `renewed_s` is monotonic, None if nothing is held (any more)."""

    lease: Lease
    renewed_s: float | None


class RunningLeases:
    """Knows the leases of running requests and renews them; for one event loop.

    Args:
        lease_s: Leases are renewed after a third of this.
        monotonic: Seconds that never go back.
    """

    def __init__(
        self,
        store: LedgerStore,
        counters: LedgerCounters,
        lease_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._counters = counters
        self._lease_s = lease_s
        self._monotonic = monotonic
        self._running: dict[str, _Running] = {}

    def __len__(self) -> int:
        return len(self._running)

    def add(self, name: str, lease: Lease, *, is_held: bool) -> None:
        """Keep a lease by the name the store knows it by; what is not held needs no renewal."""
        self._running[name] = _Running(lease, self._monotonic() if is_held else None)

    def end(self, name: str) -> bool:
        """Forget a lease; False where that was done before."""
        return self._running.pop(name, None) is not None

    async def renew(self) -> None:
        """Renew every lease that is due.

        Raises:
            LedgerUnavailable: The store cannot be reached.
        """
        now, age_s = self._monotonic(), self._lease_s / 3
        due = [
            name
            for name, running in self._running.items()
            if running.renewed_s is not None and now - running.renewed_s >= age_s
        ]
        for start in range(0, len(due), RENEWAL_BATCH):
            await asyncio.gather(*map(self._renew_one, due[start : start + RENEWAL_BATCH]))

    async def _renew_one(self, name: str) -> None:
        running = self._running.get(name)
        if running is None:
            return
        began_s = self._monotonic()
        if await self._store.renew(running.lease.team_id, name, self._lease_s):
            running.renewed_s = began_s
            self._counters.leases_renewed += 1
        elif name in self._running:
            running.renewed_s = None
            self._counters.leases_lost += 1
