"""Many gateways share one cap on what exploration may lose, through the counters of the ledger.

A turn must not wait for a counter, so each process takes a part of the cap beforehand, as a turn
reserves its worst case, and spends it in memory. What it did not spend it gives back a little
later. So at every moment all that was spent and all that may be spent is at most the cap. A process
that dies is taken to have spent its part; one that cannot reach the counters stops exploring.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from budget.errors import LedgerUnavailable
from budget.ledger.amounts import NUSD_PER_USD, TOKENS_PER_MTOK
from budget.ledger.store import LedgerStore
from budget.ledger.types import Granted, Hold, Limit, Scope
from gateway.routing.exploring import DAY_S, LentRegret

TEAM: Final = "@exploration"
"""No team can be created whose id begins so (`gateway.access.keys.TEAM_ID`)."""
SHARE_OF_DAY: Final = 0.5
"""Of the cap, that a day of UTC may see: any 24 hours touch two such days."""
AT_ONCE: Final = 0.125
"""Of a day's share, that is there when it begins; the rest comes in evenly."""
PARTS: Final = 16
"""As many parts has the cap. A choice of a larger regret than a part is not tried."""
POLLS: Final = 3
"""Within the lease of a part."""


@dataclass(slots=True, eq=False)
class SharedRegret:
    """Takes parts and gives them back; the event loop waits for none of it.

    Attributes:
        budget: Where the request path finds this process's part.
        counters: Those that all gateways share.
        lease_s: A part that is not given back for so long counts as spent.
        clock: Unix seconds.
    """

    budget: LentRegret
    counters: LedgerStore
    lease_s: float
    clock: Callable[[], float] = time.time
    _part: str | None = field(default=None, init=False)

    async def refresh(self) -> bool:
        """Give back what is left, and take a part anew; without the counters there is none."""
        try:
            await self.aclose()
            return await self._take()
        except LedgerUnavailable:
            return False

    async def aclose(self) -> None:
        """Give back what is left.

        Raises:
            LedgerUnavailable: The part is then taken for spent, when its lease ends.
        """
        part, self._part = self._part, None
        used_nusd = round(self.budget.give_back() * NUSD_PER_USD)
        if part is not None:
            await self.counters.settle(TEAM, part, used_nusd, 0)

    async def _take(self) -> bool:
        part, until_s = secrets.token_hex(12), self.budget.clock() + self.lease_s
        found = await self.counters.reserve(self._hold(part))
        # Such charges have no journal; they are named so that nobody waits for its rows.
        await self.counters.acknowledge(TEAM, found.unjournaled)
        if not isinstance(found, Granted):
            return False
        self._part = part
        self.budget.lend(found.nusd / NUSD_PER_USD, until_s)
        return True

    def _hold(self, part: str) -> Hold:
        """Ask for a part, or for what is left of one: a "token" here is a nano-USD."""
        cap_nusd = self.budget.usd_per_day * NUSD_PER_USD
        come_in = min(1.0, AT_ONCE + self.clock() % DAY_S / DAY_S)
        limit = Limit(Scope(TEAM, "team"), "nusd", "day", int(SHARE_OF_DAY * come_in * cap_nusd))
        return Hold(
            request_id=part,
            limits=(limit,),
            fixed_nusd=0,
            fixed_tokens=0,
            completion_nusd_per_mtok=TOKENS_PER_MTOK,
            min_completion_tokens=1,
            max_completion_tokens=int(cap_nusd / PARTS),
            lease_s=self.lease_s,
        )
