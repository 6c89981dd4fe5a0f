from dataclasses import replace

import pytest

from budget.ledger.memory import CORRECTION_S, DUPLICATE_S, IDLE_S, SWEPT_PER_CALL, MemoryStore
from budget.ledger.types import Refused, Scope, UnjournaledCharge
from tests.fakes.clocks import ManualClock
from tests.fakes.ledger_calls import granted, stands
from tests.fakes.ledgers import CONVERSATION, hold, limit

SETTLED = UnjournaledCharge("r", "acme", 1, 1, is_expired=False)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_800_000_000.0)


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock)


async def test_forgets_counters_of_past_windows(store: MemoryStore, clock: ManualClock) -> None:
    await store.reserve(hold("r", limit("nusd", "minute", 1_000)))
    await store.settle("acme", "r", 1, 1)
    await store.acknowledge("acme", [SETTLED])
    clock.advance(DUPLICATE_S)
    await store.standings([limit("nusd", "day", 1_000, Scope("other", "team"))])
    assert set(store._teams) == {"other"}


async def test_forgets_totals_of_which_nothing_was_spent(
    store: MemoryStore, clock: ManualClock
) -> None:
    await store.reserve(hold("r", limit("nusd", "total", 10), nusd=11))
    clock.advance(IDLE_S)
    await store.reap("other")
    assert set(store._teams) == {"other"}


async def test_a_total_that_is_held_under_outlives_its_inspections(
    store: MemoryStore, clock: ManualClock
) -> None:
    money = limit("nusd", "total", 1_000)
    await store.reserve(hold("r", money, lease_s=10 * IDLE_S))
    clock.advance(2 * IDLE_S)
    await store.reap("other")
    assert (await store.standings([money]))[0].held == 100


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
    await store.acknowledge("acme", await store.reap("acme"))
    clock.advance(CORRECTION_S)
    assert not await store.settle("acme", "r", 1, 1)
    assert (await store.standings([money]))[0].spent == 100


async def test_forgets_little_by_little_and_reads_no_past_window_meanwhile(
    store: MemoryStore, clock: ManualClock
) -> None:
    many = [
        limit("nusd", "minute", 9, Scope("acme", "conversation", f"c{number}"))
        for number in range(SWEPT_PER_CALL + 10)
    ]
    for each in many:
        await store.overwrite(each, 5)
    clock.advance(60.0)
    assert (await store.standings([many[-1]]))[0].spent == 0
    assert len(store._teams["acme"].counters) == 10
    await store.reap("acme")
    assert len(store._teams["acme"].counters) == 1


async def test_forgets_a_request_that_was_corrected(store: MemoryStore, clock: ManualClock) -> None:
    of = limit("nusd", "minute", 1_000)
    await store.reserve(hold("r", of))
    clock.advance(60.0)
    await store.reap("acme")
    assert await store.settle("acme", "r", 1, 1)
    await store.acknowledge("acme", [SETTLED])
    clock.advance(DUPLICATE_S)
    await store.reap("acme")
    await store.reserve(hold("r", of, lease_s=10 * CORRECTION_S))
    clock.advance(CORRECTION_S)
    await store.reap("acme")
    assert await store.renew("acme", "r", 1.0)
    await store.settle("acme", "r", 1, 1)
    await store.acknowledge("acme", [SETTLED])
    clock.advance(10 * CORRECTION_S)
    await store.reap("other")
    assert set(store._teams) == {"other"}


async def test_settles_past_windows_that_are_not_forgotten_yet(
    store: MemoryStore, clock: ManualClock
) -> None:
    for number in range(SWEPT_PER_CALL):
        conversation = Scope("acme", "conversation", f"c{number}")
        await store.overwrite(limit("nusd", "minute", 9, conversation), 5)
    of = limit("nusd", "minute", 1_000)
    await store.reserve(hold("r", of, lease_s=600.0))
    clock.advance(60.0)
    assert (await store.standings([of]))[0].held == 0
    assert await store.settle("acme", "r", 7, 7)
    (standing,) = await store.standings([of])
    assert (standing.spent, standing.held) == (0, 0)


async def test_forgets_a_team_with_a_request_that_ended_twice(
    store: MemoryStore, clock: ManualClock
) -> None:
    of = limit("nusd", "minute", 1_000)
    await store.reserve(hold("r", of))
    clock.advance(60.0)
    await store.settle("acme", "unknown", 1, 1)
    await store.reserve(hold("s", of))
    await store.settle("acme", "s", 1, 1)
    assert await store.settle("acme", "r", 1, 1)
    await store.acknowledge("acme", [SETTLED, replace(SETTLED, request_id="s")])
    clock.advance(DUPLICATE_S)
    await store.reap("other")
    clock.advance(CORRECTION_S)
    await store.reap("other")
    assert set(store._teams) == {"other"}


async def test_remembers_a_settlement_until_its_row_is_kept(
    store: MemoryStore, clock: ManualClock
) -> None:
    await store.reserve(hold("r", limit("nusd", "minute", 1_000)))
    await store.settle("acme", "r", 1, 1)
    for _ in range(5):
        clock.advance(CORRECTION_S)
        assert await store.reap("acme") == (SETTLED,)
    await store.acknowledge("acme", [SETTLED])
    clock.advance(CORRECTION_S)
    await store.reap("other")
    assert set(store._teams) == {"other"}


async def test_waits_for_the_first_lease_that_is_still_open(store: MemoryStore) -> None:
    money = limit("nusd", "total", 200)
    await store.reserve(hold("settled", money, lease_s=1.0))
    await store.reserve(hold("renewed", money, lease_s=2.0))
    await store.settle("acme", "settled", 100, 100)
    await store.renew("acme", "renewed", 30.0)
    answer = await store.reserve(hold("r", money))
    assert isinstance(answer, Refused)
    assert answer.retry_after_s == 30.0


async def test_forgets_a_conversation_a_month_after_its_last_turn(
    store: MemoryStore, clock: ManualClock
) -> None:
    output = limit("output", "total", 50, CONVERSATION)
    await granted(store, "first", output, most=20)
    await store.settle("acme", "first", 0, 20, 20)
    clock.advance(29 * 86_400.0)
    await granted(store, "second", output, most=20)
    await store.settle("acme", "second", 0, 20, 20)
    clock.advance(29 * 86_400.0)
    await store.settle("other", "nothing", 0, 0)
    assert await stands(store, output) == (40, 0)
    clock.advance(31 * 86_400.0)
    await store.settle("other", "nothing", 0, 0)
    assert await stands(store, output) == (0, 0)
