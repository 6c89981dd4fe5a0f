import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget.ledger.amounts import affordable_tokens, cost_nusd, refusal
from budget.ledger.types import Standing
from tests.fakes.ledgers import hold, limit

prices = st.integers(0, 10**12)


@given(st.integers(0, 10**15), prices, st.integers(0, 10**7))
def test_affords_the_most_tokens_that_the_room_pays_for(room: int, price: int, most: int) -> None:
    tokens = affordable_tokens(room, price, most)
    assert 0 <= tokens <= most
    assert cost_nusd(tokens, price) <= room
    assert tokens == most or cost_nusd(tokens + 1, price) > room


@given(st.integers(-(10**15), -1), prices)
def test_affords_not_even_nothing_where_the_room_is_negative(room: int, price: int) -> None:
    assert affordable_tokens(room, price, 100) < 0


def test_refusal_needs_a_limit_that_refuses() -> None:
    of = limit("nusd", "total", 100)
    with pytest.raises(ValueError, match="every limit affords"):
        refusal(hold("r", of), (Standing(of, 0, 0, None),), None)


def test_retry_is_at_the_end_of_the_window_or_of_the_first_lease_whichever_is_sooner() -> None:
    of = limit("nusd", "minute", 100)
    wanted = hold("r", of, least=50)
    assert refusal(wanted, (Standing(of, 0, 60, 20.0),), 5.0).retry_after_s == 5.0
    assert refusal(wanted, (Standing(of, 0, 60, 20.0),), 35.0).retry_after_s == 20.0
    assert refusal(wanted, (Standing(of, 60, 20, 20.0),), 5.0).retry_after_s == 20.0
    assert refusal(wanted, (Standing(of, 0, 60, 20.0),), None).retry_after_s == 20.0


def test_a_limit_that_never_affords_it_outweighs_one_that_will() -> None:
    soon, never = limit("nusd", "minute", 100), limit("nusd", "day", 10)
    standings = (Standing(never, 0, 0, 9_000.0), Standing(soon, 100, 0, 20.0))
    answer = refusal(hold("r", never, soon, least=50), standings, None)
    assert (answer.standing.limit, answer.retry_after_s) == (never, None)
