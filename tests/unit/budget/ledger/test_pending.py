import pytest

from budget.errors import LedgerUnavailable
from budget.ledger import pending as pending_module
from budget.ledger.pending import PendingSettlement, PendingSettlements
from budget.ledger.settlements import Lease, SettlementRecord, limit_codes
from budget.ledger.types import Charge, Granted, Hold, Limit, Scope
from tests.fakes.budgets import Clock, Journal, SwitchedStore

CAP = 1000
TOTAL = Limit(Scope("blue", "team"), "nusd", "total", CAP)
MINUTE = Limit(Scope("blue", "team"), "tokens", "minute", CAP)
OPEN = Limit(Scope("blue", "team"), "concurrent", "now", 1)
LIMITS = (TOTAL, MINUTE, OPEN)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> SwitchedStore:
    return SwitchedStore(clock)


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def debts(store, journal, clock) -> PendingSettlements:
    return PendingSettlements(store, journal.record_settlement, clock)


def lease(clock: Clock, number: int = 1) -> Lease:
    return Lease(f"req_{number}", "blue", "k", None, None, limit_codes(LIMITS), clock())


async def hold(store, lease: Lease) -> None:
    outcome = await store.reserve(Hold(lease.idempotency_key, LIMITS, 900, 90, 0, 0, 0, 60.0))
    assert isinstance(outcome, Granted)


async def spent(store) -> tuple[int, ...]:
    return tuple(standing.spent for standing in await store.standings(LIMITS))


async def test_what_was_held_is_settled_once_the_store_is_back(debts, store, clock):
    await hold(store, lease(clock))
    store.is_up = False
    debts.add(PendingSettlement(lease(clock), Charge(70, 7)))
    with pytest.raises(LedgerUnavailable):
        await debts.catch_up()
    assert len(debts) == 1

    store.is_up = True
    await debts.catch_up()

    assert await spent(store) == (70, 7, 0)
    assert len(debts) == 0


async def test_what_was_served_without_a_hold_is_charged_even_beyond_the_cap(debts, store, clock):
    debts.add(PendingSettlement(lease(clock), Charge(5000, 50), LIMITS))
    await debts.catch_up()

    (total, minute, _) = await store.standings(LIMITS)
    assert (total.spent, total.held, total.remaining) == (5000, 0, 0)
    assert minute.spent == 50


async def test_a_charge_without_a_hold_is_made_once(debts, store, clock):
    for _ in range(2):
        debts.add(PendingSettlement(lease(clock), Charge(70, 7), LIMITS))
        await debts.catch_up()

    assert await spent(store) == (70, 7, 0)


async def test_windows_that_ended_meanwhile_are_left_out(debts, store, clock):
    old = lease(clock)
    clock.now_s += 60

    debts.add(PendingSettlement(old, Charge(70, 7), LIMITS))
    debts.add(PendingSettlement(old, Charge(70, 7), (MINUTE, OPEN)))
    await debts.catch_up()

    assert await spent(store) == (70, 0, 0)


async def test_a_row_is_journaled_only_if_the_store_held_it(debts, store, clock, journal):
    held, unknown = lease(clock, 1), lease(clock, 2)
    await hold(store, held)
    for each in (held, unknown):
        record = SettlementRecord(
            each, None, 0, 0, 0, 0, is_estimated=False, outcome="left", settled_at_unix_s=0.0
        )
        debts.add(PendingSettlement(each, Charge(0, 0), record=record))

    await debts.catch_up()

    assert [row.lease for row in journal.rows] == [held]


async def test_memory_is_bounded_and_what_is_forgotten_is_counted(debts, clock, monkeypatch):
    monkeypatch.setattr(pending_module, "MAX_PENDING", 2)
    for number in range(3):
        debts.add(PendingSettlement(lease(clock, number), Charge(0, 0)))

    assert (len(debts), debts.dropped) == (2, 1)


async def test_a_debt_that_the_store_cannot_take_does_not_hold_up_the_others(debts, store, clock):
    await hold(store, lease(clock, 2))
    debts.add(PendingSettlement(lease(clock, 1), Charge(70, 7), LIMITS))
    debts.add(PendingSettlement(lease(clock, 2), Charge(70, 7)))
    reserve = store.reserve

    async def refuse(wanted: Hold) -> None:
        raise RuntimeError("a bug")

    store.reserve = refuse
    with pytest.raises(RuntimeError):
        await debts.catch_up()
    store.reserve = reserve
    await debts.catch_up()

    assert await spent(store) == (70, 7, 0)
    assert (len(debts), debts.dropped) == (0, 1)
