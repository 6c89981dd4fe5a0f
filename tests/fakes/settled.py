"""A ledger and a log that remember what a turn told them."""

import asyncio
from dataclasses import dataclass, field

from budget.ledger.types import OutputCap
from gateway.budgets.reservation import Reservation
from gateway.types import TurnRecord, Usage
from tests.fakes.turn_budgets import Conversations


@dataclass
class Log:
    rows: list[TurnRecord] = field(default_factory=list)

    def record(self, row: TurnRecord) -> None:
        self.rows.append(row)


@dataclass
class Settled(Conversations):
    output: int = 0
    held_for: list[str] = field(default_factory=list)
    caps: list[OutputCap | None] = field(default_factory=list)
    reserved: asyncio.Event = field(default_factory=asyncio.Event)
    settled: list[tuple[str, Usage | None, int]] = field(default_factory=list)

    async def reserve(
        self, request_id, caller, request, models, cap=None, *, charged=None
    ) -> Reservation:
        self.held_for.append(request_id)
        self.caps.append(cap)
        self.reserved.set()
        granted = None if cap is None else cap.tokens
        return Reservation(request_id, completion_tokens=granted, output=self.output)

    async def settle(self, reservation, usage, cost_nusd, *, model, outcome, answer_id) -> None:
        await asyncio.sleep(0)
        self.settled.append((reservation.request_id, usage, cost_nusd))
