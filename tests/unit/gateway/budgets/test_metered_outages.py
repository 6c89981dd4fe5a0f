import asyncio

import pytest

from budget.errors import LedgerUnavailable
from gateway.errors import DependencyUnavailable
from gateway.settings.config import BudgetSettings
from gateway.types import Caller
from tests.fakes.budgets import (
    Bench,
)
from tests.fakes.patience import PATIENCE_S


@pytest.fixture
def bench(engine):
    bench = Bench(engine)
    yield bench
    bench.book.close()


@pytest.fixture
def open_bench(engine):
    bench = Bench(engine, when_store_is_down="open")
    yield bench
    bench.book.close()


async def test_while_the_store_is_down_budgeted_callers_are_refused(bench, caplog):
    await bench.cap(10_000_000)
    bench.store.is_up = False

    for _ in range(2):
        with pytest.raises(DependencyUnavailable) as refused:
            await bench.reserve()

    assert refused.value.retry_after_s is not None
    assert bench.ledger.counters.refused_for_outage == 2
    assert bench.ledger.counters.store_failures == 1  # the second did not even ask
    assert caplog.text.count("budgets: the store is down") == 1
    await bench.reserve(caller=Caller("k", "green"))
    bench.store.is_up = True
    bench.wait(1)
    await bench.reserve()


async def test_an_open_gateway_serves_journals_and_catches_up(open_bench):
    bench = open_bench
    await bench.cap(10_000_000)
    bench.store.is_up = False

    held = await bench.reserve()
    await bench.settle(held)

    assert not held.is_held
    assert bench.ledger.counters.served_unchecked == 1
    assert bench.journal.rows[0].charged_nusd == 1000
    assert bench.ledger.unsettled == 1
    bench.wait(1)
    await bench.ledger.maintain()
    assert bench.ledger.unsettled == 1
    bench.store.is_up = True
    await bench.ledger.maintain()  # too early to ask again
    bench.wait(1)
    await bench.ledger.maintain()

    assert (await bench.standing()).spent == 1000
    assert bench.ledger.unsettled == 0


async def test_an_unchecked_turn_knows_the_most_it_can_use(open_bench):
    await open_bench.cap(10_000_000)
    open_bench.store.is_up = False
    unchecked = await open_bench.reserve(max_tokens=700, n=2)

    assert (unchecked.is_held, unchecked.output) == (False, 1_400)


async def test_a_store_that_dies_in_mid_request_learns_of_it_later(bench):
    await bench.cap(10_000_000)
    first, second = await bench.reserve(max_tokens=1), await bench.reserve(max_tokens=1)
    bench.store.is_up = False

    await bench.settle(first)
    await bench.settle(second)
    assert bench.ledger.unsettled == 2
    assert bench.ledger.counters.store_failures == 1
    bench.store.is_up = True
    bench.wait(1)
    await bench.ledger.maintain()

    standing = await bench.standing()
    assert (standing.spent, standing.held) == (2000, 0)


async def test_a_settlement_that_is_cancelled_is_made_later(bench):
    await bench.cap(10_000_000)
    held = await bench.reserve()
    bench.store.settle = never
    settling = asyncio.create_task(bench.settle(held))
    await asyncio.sleep(0)
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling

    del bench.store.settle
    await bench.ledger.maintain()

    assert (await bench.standing()).spent == 1000


async def never(*args) -> None:
    await asyncio.Event().wait()


async def test_a_hold_granted_to_a_caller_who_left_is_given_back(bench):
    await bench.cap(10_000_000)
    may_answer = asyncio.Event()
    reserve = bench.store.reserve

    async def slow(hold):
        await may_answer.wait()
        return await reserve(hold)

    bench.store.reserve = slow
    reserving = asyncio.create_task(bench.reserve())
    while bench.requests == 0:  # noqa: ASYNC110
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    reserving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reserving
    may_answer.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (await bench.standing()).held > 0

    await bench.ledger.maintain()

    assert (await bench.standing()).held == 0
    (row,) = bench.journal.rows
    assert (row.outcome, row.charged_nusd, row.held_nusd > 0) == ("ClientLeft", 0, True)


@pytest.mark.parametrize("answer", [LedgerUnavailable("down"), "refused"])
async def test_a_caller_who_left_before_a_refusal_owes_nothing(bench, answer):
    await bench.cap(0 if answer == "refused" else 10_000_000)
    may_answer = asyncio.Event()
    reserve = bench.store.reserve

    async def slow(hold):
        await may_answer.wait()
        if answer == "refused":
            return await reserve(hold)
        raise answer

    bench.store.reserve = slow
    reserving = asyncio.create_task(bench.reserve())
    for _ in range(5):
        await asyncio.sleep(0)
    reserving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reserving
    may_answer.set()
    for _ in range(5):
        await asyncio.sleep(0)

    await bench.ledger.maintain()

    assert (bench.ledger.unsettled, bench.journal.rows) == (0, [])


async def test_long_turns_keep_their_leases(bench):
    await bench.cap(10_000_000)
    held = await bench.reserve()
    for _ in range(10):
        bench.wait(25)
        await bench.ledger.maintain()

    assert bench.ledger.counters.leases_renewed == 10
    assert (await bench.standing()).held == held.nusd
    await bench.settle(held)
    assert (await bench.standing()).spent == 1000


async def test_a_lease_that_was_lost_is_corrected_by_its_settlement(bench):
    await bench.cap(10_000_000)
    held = await bench.reserve(max_tokens=1)
    bench.wait(61)
    await bench.reserve(max_tokens=1)  # finds it

    assert bench.ledger.counters.leases_expired == 1
    (row,) = bench.journal.rows
    assert (row.outcome, row.charged_nusd) == ("expired", held.nusd)
    assert row.lease == held.lease
    await bench.ledger.maintain()
    await bench.ledger.maintain()
    assert bench.ledger.counters.leases_lost == 1
    await bench.settle(held)
    assert (await bench.standing()).spent == 1000


async def test_a_charge_without_a_row_is_journaled_by_whoever_is_told(bench):
    await bench.cap(10_000_000)
    held = await bench.reserve(max_tokens=1)
    await bench.settle(held)
    bench.journal.rows.clear()  # its gateway was killed
    bench.wait(61)

    other = await bench.reserve(max_tokens=1)

    (row,) = bench.journal.rows
    assert (row.outcome, row.charged_nusd, row.charged_tokens) == ("recovered", 1000, 30)
    assert row.lease == held.lease
    assert bench.ledger.counters.leases_expired == 0
    await bench.settle(other)


async def test_nobody_is_told_of_a_charge_whose_row_is_kept(bench):
    await bench.cap(10_000_000)
    await bench.settle(await bench.reserve(max_tokens=1))
    lost = await bench.reserve(max_tokens=1)
    await bench.ledger.maintain()
    bench.wait(61)
    await bench.reserve(max_tokens=1)
    assert [row.outcome for row in bench.journal.rows] == ["answered", "expired"]
    await bench.ledger.maintain()
    bench.wait(61)

    (found,) = await bench.store.reap("blue")

    assert found.is_expired
    assert found.request_id != lost.lease.idempotency_key


async def test_a_debt_is_acknowledged_once_the_store_knows_of_it(bench):
    await bench.cap(10_000_000)
    held = await bench.reserve(max_tokens=1)
    bench.store.is_up = False
    await bench.settle(held)
    await bench.ledger.maintain()
    bench.store.is_up = True
    bench.wait(1)

    await bench.ledger.maintain()

    bench.wait(3_600)
    assert await bench.store.reap("blue") == ()
    assert (await bench.standing()).spent == 1000


async def test_what_was_served_unchecked_is_acknowledged_once_it_is_charged(open_bench):
    await open_bench.cap(10_000_000)
    open_bench.store.is_up = False
    held = await open_bench.reserve(max_tokens=1)
    await open_bench.settle(held)
    open_bench.store.is_up = True
    open_bench.wait(1)

    await open_bench.ledger.maintain()

    open_bench.wait(3_600)
    assert await open_bench.store.reap("blue") == ()
    assert (await open_bench.standing()).spent == 1000


async def test_an_outage_that_many_requests_notice_is_logged_once(bench, caplog):
    await bench.cap(10_000_000)

    async def fail_later(hold) -> None:
        await asyncio.sleep(0)
        raise LedgerUnavailable("gone")

    bench.store.reserve = fail_later
    failed = await asyncio.gather(bench.reserve(), bench.reserve(), return_exceptions=True)

    assert [type(each) for each in failed] == [DependencyUnavailable] * 2
    assert bench.ledger.counters.store_failures == 2
    assert caplog.text.count("the store is down") == 1


async def test_leases_are_renewed_again_whatever_happens(bench, caplog):
    async def fail() -> None:
        raise ValueError("a bug")

    bench.ledger._settings = BudgetSettings().model_copy(update={"lease_s": 0.01})
    bench.ledger.maintain = fail
    running = asyncio.create_task(bench.ledger.run())
    async with asyncio.timeout(PATIENCE_S):
        while caplog.text.count("a bug") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.002)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_closing_tells_the_store_what_it_can(bench, caplog):
    await bench.cap(10_000_000)
    held, other = await bench.reserve(max_tokens=1), await bench.reserve(max_tokens=1)
    bench.store.is_up = False
    await bench.settle(held)
    await bench.ledger.aclose()
    assert "1 settlements did not reach the store" in caplog.text

    bench.store.is_up = True
    await bench.ledger.aclose()

    assert (await bench.standing()).spent == 1000
    assert other.is_held
