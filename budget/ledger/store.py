"""The interface of the ledger's stores: counters in this process, or in Redis for many."""

from collections.abc import Sequence
from typing import Protocol

from budget.ledger.types import Granted, Hold, Limit, Refused, Standing, UnjournaledCharge


class LedgerStore(Protocol):
    """Atomic counters of budgets; every method is one round trip.

    Invariant, for any interleaving: ``spent + held <= cap`` in every limit when a hold is granted;
    nothing is charged twice; when all leases have ended, held is 0. A charge is delivered to
    callers again and again (at least once) until it is acknowledged, so its journal row is never
    lost.
    """

    async def reserve(self, hold: Hold) -> Granted | Refused:
        """Hold the worst case under every limit, or nothing under any; idempotent by request id.

        Raises:
            LedgerUnavailable: The store cannot be reached.
        """
        ...

    async def renew(self, team_id: str, request_id: str, lease_s: float) -> bool:
        """Extend a lease; False where it has ended."""
        ...

    async def settle(
        self, team_id: str, request_id: str, nusd: int, tokens: int, output: int = 0
    ) -> bool:
        """Replace a hold by what was used, in the windows it was held in; idempotent.

        False where nothing was charged: the request was settled before, or is not known.
        A lease that expired was charged in full: settling it late corrects the charge. Unless the
        charge is acknowledged within the length of the lease, it is delivered to callers.
        """
        ...

    async def standings(self, limits: Sequence[Limit]) -> tuple[Standing, ...]:
        """Read where limits (all of one team) stand."""
        ...

    async def overwrite(self, limit: Limit, spent: int) -> None:
        """Set what was spent in the current window: to reset, or to rebuild from the journal."""
        ...

    async def reap(self, team_id: str) -> tuple[UnjournaledCharge, ...]:
        """Charge the team's expired leases, and return some charges not yet acknowledged."""
        ...

    async def acknowledge(self, team_id: str, kept: Sequence[UnjournaledCharge]) -> None:
        """Stop delivering these charges: their journal rows are on disk."""
        ...
