import pytest

from budget.errors import CapacityExceeded, ShareExceeded
from budget.in_flight import InFlight


@pytest.fixture
def memory() -> InFlight:
    return InFlight(limit=100, limit_per_owner=60)


def test_an_owner_has_its_share_and_no_more(memory) -> None:
    with memory.hold("a") as one, memory.hold("a") as two:
        one.grow(40)
        with pytest.raises(ShareExceeded) as refused:
            two.grow(21)
        assert refused.value.retry_after_s == 1.0
        two.grow(20)
        assert memory.held == 60


def test_all_owners_share_what_there_is(memory) -> None:
    with memory.hold("a") as one, memory.hold("b") as two:
        one.grow(60)
        with pytest.raises(CapacityExceeded):
            two.grow(41)
        two.grow(40)


def test_what_was_refused_is_not_counted_and_all_is_given_back(memory) -> None:
    with memory.hold("a") as hold:
        hold.grow(50)
        with pytest.raises(ShareExceeded):
            hold.grow(61)
        assert memory.held == 50
    assert memory.held == 0
    with memory.hold("a") as hold:
        hold.grow(60)


def test_growing_to_less_changes_nothing(memory) -> None:
    with memory.hold("a") as hold:
        hold.grow(50)
        hold.grow(10)
        assert memory.held == hold.amount == 50


def test_owners_that_hold_nothing_are_forgotten(memory) -> None:
    with memory.hold("a") as hold:
        hold.grow(1)
    with memory.hold("b"):
        pass
    assert not memory._by_owner
