"""What becomes of leases nobody settles, and of charges nobody journals; both ledger stores."""

from budget.ledger.memory import MemoryStore
from budget.ledger.redis_store import RedisStore
from budget.ledger.types import UnjournaledCharge
from tests.fakes.clocks import ManualClock
from tests.fakes.ledger_calls import granted, refused, stands
from tests.fakes.ledgers import CONVERSATION, hold, limit

Reapable = MemoryStore | RedisStore


async def test_charges_an_expired_lease_in_full_and_tells_one_caller(
    store: Reapable, clock: ManualClock
) -> None:
    money, slots = limit("nusd", "total", 1_000), limit("concurrent", "now", 1)
    await granted(store, "lost", money, slots, tokens=3)
    clock.advance(60.0)
    assert await stands(store, money) == (100, 0)
    assert await stands(store, slots) == (0, 0)

    answer = await granted(store, "r", money, slots)

    assert answer.unjournaled == (
        UnjournaledCharge("lost", "acme", 100, 103, is_expired=True, output=100),
    )
    assert (await granted(store, "r", money, slots)).unjournaled == ()


async def test_a_refusal_tells_of_expired_leases_too(store: Reapable, clock: ManualClock) -> None:
    money = limit("nusd", "total", 100)
    await granted(store, "lost", money)
    clock.advance(60.0)
    answer = await refused(store, "r", money)
    assert [lease.request_id for lease in answer.unjournaled] == ["lost"]


async def test_tells_of_a_settlement_that_nobody_acknowledged(
    store: Reapable, clock: ManualClock
) -> None:
    money = limit("nusd", "total", 1_000)
    await store.reserve(hold("r", money, lease_s=7.0))
    clock.advance(6.0)
    await store.settle("acme", "r", 30, 40)
    clock.advance(6.9)
    assert await store.reap("acme") == ()
    clock.advance(0.1)
    assert await store.reap("acme") == (UnjournaledCharge("r", "acme", 30, 40, is_expired=False),)


async def test_does_not_tell_of_what_was_acknowledged(store: Reapable, clock: ManualClock) -> None:
    money = limit("nusd", "total", 1_000)
    await granted(store, "settled", money)
    await granted(store, "expired", money)
    await store.settle("acme", "settled", 30, 40)
    await store.acknowledge(
        "acme", [UnjournaledCharge("settled", "acme", 30, 40, is_expired=False)]
    )
    clock.advance(60.0)
    (expired,) = await store.reap("acme")
    await store.acknowledge("acme", [expired])
    clock.advance(3_600.0)
    assert await store.reap("acme") == ()


async def test_tells_another_caller_where_the_first_one_died(
    store: Reapable, clock: ManualClock
) -> None:
    await granted(store, "lost", limit("nusd", "total", 1_000))
    clock.advance(60.0)
    told = await store.reap("acme")
    clock.advance(29.0)
    assert await store.reap("acme") == ()
    clock.advance(1.0)
    assert await store.reap("acme") == told != ()


async def test_acknowledging_a_full_charge_does_not_hide_its_correction(
    store: Reapable, clock: ManualClock
) -> None:
    await granted(store, "late", limit("nusd", "total", 1_000))
    clock.advance(60.0)
    (in_full,) = await store.reap("acme")
    await store.settle("acme", "late", 30, 30)
    await store.acknowledge("acme", [in_full])
    clock.advance(60.0)
    assert await store.reap("acme") == (
        UnjournaledCharge("late", "acme", 30, 30, is_expired=False),
    )


async def test_acknowledges_what_it_does_not_know(store: Reapable) -> None:
    await store.acknowledge("acme", [UnjournaledCharge("never", "acme", 1, 1, is_expired=False)])
    await store.acknowledge("acme", [])


async def test_tells_of_many_charges_little_by_little(store: Reapable, clock: ManualClock) -> None:
    money = limit("nusd", "total", 10**9)
    for number in range(60):
        await granted(store, f"lost {number}", money)
    clock.advance(60.0)
    told = [*await store.reap("acme"), *await store.reap("acme")]
    assert len(told) == len(set(told)) == 60
    assert await store.reap("acme") == ()


async def test_never_forgets_what_was_spent_in_total(store: Reapable, clock: ManualClock) -> None:
    money = limit("nusd", "total", 1_000, CONVERSATION)
    await granted(store, "r", money)
    await store.settle("acme", "r", 30, 30)
    for _ in range(3):
        clock.advance(400 * 86_400.0)
        assert await stands(store, money) == (30, 0)


async def test_remembers_for_weeks_what_a_conversation_put_out(
    store: Reapable, clock: ManualClock
) -> None:
    output = limit("output", "total", 50, CONVERSATION)
    await granted(store, "r", output, most=40)
    await store.settle("acme", "r", 0, 40, 40)
    clock.advance(20 * 86_400)
    assert await stands(store, output) == (40, 0)


async def test_never_forgets_what_is_held(store: Reapable, clock: ManualClock) -> None:
    money = limit("nusd", "total", 1_000, CONVERSATION)
    await store.reserve(hold("r", money, lease_s=400 * 86_400.0))
    clock.advance(399 * 86_400.0)
    assert await stands(store, money) == (0, 100)
    clock.advance(86_400.0)
    assert await stands(store, money) == (100, 0)


async def test_corrects_a_lease_that_expired_with_nothing_to_charge(
    store: Reapable, clock: ManualClock
) -> None:
    money = limit("nusd", "total", 1_000)
    await granted(store, "late", money, price=0)
    clock.advance(60.0)
    await store.reap("acme")
    clock.advance(3_600.0)
    assert await stands(store, money) == (0, 0)
    await store.settle("acme", "late", 30, 30)
    assert await stands(store, money) == (30, 0)


async def test_settling_late_corrects_the_charge(store: Reapable, clock: ManualClock) -> None:
    money = limit("nusd", "total", 1_000)
    await granted(store, "late", money)
    clock.advance(61.0)
    assert await stands(store, money) == (100, 0)
    assert await store.settle("acme", "late", 30, 30)
    assert await stands(store, money) == (30, 0)
    assert not await store.settle("acme", "late", 30, 30)


async def test_settling_after_the_end_but_before_anybody_noticed_is_plain(
    store: Reapable, clock: ManualClock
) -> None:
    money = limit("nusd", "total", 1_000)
    await granted(store, "late", money)
    await granted(store, "other", money)
    clock.advance(61.0)
    assert await store.settle("acme", "late", 30, 30)
    assert await stands(store, money) == (130, 0)
    assert [lease.request_id for lease in await store.reap("acme")] == ["other"]


async def test_renewed_leases_live_on(store: Reapable, clock: ManualClock) -> None:
    money = limit("nusd", "total", 1_000)
    await granted(store, "r", money)
    clock.advance(50.0)
    assert await store.renew("acme", "r", 60.0)
    clock.advance(50.0)
    assert await stands(store, money) == (0, 100)
    clock.advance(10.0)
    assert not await store.renew("acme", "r", 60.0)
    assert await store.reap("acme") == (
        UnjournaledCharge("r", "acme", 100, 100, is_expired=True, output=100),
    )
