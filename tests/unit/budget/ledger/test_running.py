import pytest

from budget.errors import LedgerUnavailable
from budget.ledger.counters import LedgerCounters
from budget.ledger.memory import MemoryStore
from budget.ledger.running import RunningLeases
from budget.ledger.settlements import Lease
from tests.fakes.clocks import ManualClock
from tests.fakes.ledgers import hold, limit

LEASE = Lease("req_1", "acme", "k1", None, None, " kna ", 0.0)
LEASE_S = 60.0
MONEY = limit("nusd", "total", 1_000)


class EndingStore(MemoryStore):
    """Requests end while their leases are renewed."""

    leases: RunningLeases
    asked = 0

    async def renew(self, team_id: str, request_id: str, lease_s: float) -> bool:
        self.asked += 1
        for name in ("a", "b"):
            self.leases.end(name)
        return False


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_800_000_000.0)


def running(store: MemoryStore, clock: ManualClock) -> tuple[RunningLeases, LedgerCounters]:
    counters = LedgerCounters()
    return RunningLeases(store, counters, LEASE_S, clock), counters


async def test_renews_what_is_held_after_a_third_of_its_time(clock):
    store = MemoryStore(clock)
    leases, counters = running(store, clock)
    await store.reserve(hold("a", MONEY, lease_s=LEASE_S))
    leases.add("a", LEASE, is_held=True)
    leases.add("b", LEASE, is_held=False)
    for _ in range(10):
        clock.advance(LEASE_S / 3 - 1)
        await leases.renew()
        clock.advance(1)
        await leases.renew()
    assert (counters.leases_renewed, counters.leases_lost, len(leases)) == (10, 0, 2)
    assert await store.reap("acme") == ()


async def test_a_lease_that_ended_is_lost_once(clock):
    leases, counters = running(MemoryStore(clock), clock)
    leases.add("a", LEASE, is_held=True)
    for _ in range(2):
        clock.advance(LEASE_S)
        await leases.renew()
    assert counters.leases_lost == 1


async def test_requests_that_end_meanwhile_are_left_alone(clock):
    store = EndingStore(clock)
    store.leases, counters = running(store, clock)
    for name in ("a", "b"):
        store.leases.add(name, LEASE, is_held=True)
    clock.advance(LEASE_S)
    await store.leases.renew()
    assert (counters.leases_lost, store.asked, len(store.leases)) == (0, 1, 0)


async def test_a_lease_ends_once(clock):
    leases, _ = running(MemoryStore(clock), clock)
    leases.add("a", LEASE, is_held=True)
    assert leases.end("a")
    assert not leases.end("a")


async def test_a_store_that_is_down_says_so(clock):
    class DownStore(MemoryStore):
        async def renew(self, team_id: str, request_id: str, lease_s: float) -> bool:
            raise LedgerUnavailable("down")

    leases, _ = running(DownStore(clock), clock)
    leases.add("a", LEASE, is_held=True)
    clock.advance(LEASE_S)
    with pytest.raises(LedgerUnavailable):
        await leases.renew()
