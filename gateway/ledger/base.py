"""Where a turn's spend is held before the call and settled after it."""

from dataclasses import dataclass
from typing import Protocol

from gateway.types import Caller, HostedModel, Usage


@dataclass(frozen=True, slots=True)
class Reservation:
    """What was held for one turn."""

    request_id: str


class Ledger(Protocol):
    """Holds budgets: reserve the worst case before the upstream call, settle what was used."""

    async def reserve(self, request_id: str, caller: Caller, model: HostedModel) -> Reservation:
        """Hold the worst case of this turn in every scope it belongs to, or refuse."""
        ...

    async def settle(self, reservation: Reservation, usage: Usage | None, cost_nusd: int) -> None:
        """Replace what was held by what was used; idempotent by request id."""
        ...


class UnmeteredLedger:
    """Admits everything: the ledger of a deployment that declares no budgets."""

    async def reserve(self, request_id: str, caller: Caller, model: HostedModel) -> Reservation:
        """Hold nothing."""
        del caller, model
        return Reservation(request_id)

    async def settle(self, reservation: Reservation, usage: Usage | None, cost_nusd: int) -> None:
        """Settle nothing."""
