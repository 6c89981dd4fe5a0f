from collections.abc import Iterator

import pytest

from gateway.ledger.memory import CORRECTION_S, DUPLICATE_S, RETENTION_S, TURN_S, MemoryStore
from gateway.ledger.types import Scope
from tests.fakes.clocks import ManualClock
from tests.fakes.ledgers import hold, limit

TURN = Scope("acme", "turn", "turn-1")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_800_000_000.0)


@pytest.fixture
def store(clock: ManualClock) -> Iterator[MemoryStore]:
    return MemoryStore(clock)


async def test_forgets_counters_of_past_windows(store: MemoryStore, clock: ManualClock) -> None:
    await store.reserve(hold("r", limit("nusd", "minute", 1_000)))
    await store.settle("acme", "r", 1, 1)
    clock.advance(DUPLICATE_S)
    await store.standings([limit("nusd", "day", 1_000, Scope("other", "team"))])
    assert set(store._teams) == {"other"}


async def test_forgets_totals_a_month_after_their_last_use(
    store: MemoryStore, clock: ManualClock
) -> None:
    money = limit("nusd", "total", 1_000)
    await store.overwrite(money, 10)
    clock.advance(RETENTION_S - 1.0)
    assert (await store.standings([money]))[0].spent == 10
    clock.advance(RETENTION_S - 1.0)
    assert (await store.standings([money]))[0].spent == 10
    clock.advance(RETENTION_S)
    assert (await store.standings([money]))[0].spent == 0


async def test_forgets_turns_within_an_hour(store: MemoryStore, clock: ManualClock) -> None:
    money = limit("nusd", "total", 1_000, TURN)
    await store.overwrite(money, 10)
    clock.advance(TURN_S)
    assert (await store.standings([money]))[0].spent == 0


async def test_keeps_what_open_leases_hold(store: MemoryStore, clock: ManualClock) -> None:
    slots = limit("concurrent", "now", 5)
    await store.reserve(hold("r", slots, lease_s=10 * DUPLICATE_S))
    clock.advance(2 * DUPLICATE_S)
    assert (await store.standings([slots]))[0].held == 1
    await store.settle("acme", "r", 0, 0)
    clock.advance(2 * DUPLICATE_S)
    await store.reap("acme")
    assert set(store._teams) <= {"acme"}
    assert not store._teams["acme"].counters


async def test_corrects_an_expired_lease_for_a_day(store: MemoryStore, clock: ManualClock) -> None:
    money = limit("nusd", "total", 1_000)
    await store.reserve(hold("r", money))
    clock.advance(60.0)
    await store.reap("acme")
    clock.advance(CORRECTION_S)
    assert not (await store.settle("acme", "r", 1, 1)).is_first
    assert (await store.standings([money]))[0].spent == 100


async def test_waits_for_the_first_lease_that_is_still_open(store: MemoryStore) -> None:
    money = limit("nusd", "total", 200)
    await store.reserve(hold("settled", money, lease_s=1.0))
    await store.reserve(hold("renewed", money, lease_s=2.0))
    await store.settle("acme", "settled", 100, 100)
    await store.renew("acme", "renewed", 30.0)
    answer = await store.reserve(hold("r", money))
    assert answer.retry_after_s == 30.0
