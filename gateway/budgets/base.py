"""Where a turn's spend is held before the call and settled after it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from budget.ledger.settlements import SettlementRecord
from budget.ledger.types import Charge, Limit, OutputCap, Standing, UnjournaledCharge
from gateway.budgets.reservation import Reservation
from gateway.types import Caller, HostedModel, Usage
from gateway.wire import ChatRequest

BoundPrompt = Callable[[Mapping[str, Any], Sequence[HostedModel], str], Awaitable[int]]
"""Bounds the prompt tokens of a request body of a team, whichever of the models reads it."""


class SettlementLog(Protocol):
    """Takes rows of the journal without blocking."""

    def record_settlement(self, settlement: SettlementRecord) -> None:
        """Keep `settlement`; never raises, never waits."""
        ...

    def take_durable(self) -> list[UnjournaledCharge]:
        """Take what the rows acknowledge that reached the disk since the last call."""
        ...


class Ledger(Protocol):
    """Holds budgets: reserve the worst case before the upstream call, settle what was used."""

    async def reserve(
        self,
        request_id: str,
        caller: Caller,
        request: ChatRequest,
        models: Sequence[HostedModel],
        cap: OutputCap | None = None,
        *,
        charged: Charge | None = None,
    ) -> Reservation:
        """Hold the worst case of this turn, on any of `models`, in every scope, or refuse.

        Args:
            charged: To the same turn before, which falls back; None at first.
        """
        ...

    def conversation(self, request: ChatRequest, caller: Caller) -> str | None:
        """Return the digest of the conversation that `request` belongs to; None without one."""
        ...

    async def standing(self, limit: Limit) -> Standing:
        """Read where one limit stands."""
        ...

    async def settle(
        self,
        reservation: Reservation,
        usage: Usage | None,
        cost_nusd: int,
        *,
        model: str | None,
        outcome: str,
        answer_id: str | None,
    ) -> None:
        """Charge what was used instead of what was held; idempotent, whoever is cancelled."""
        ...
