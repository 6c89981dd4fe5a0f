from typing import Any

import pytest

from budget.ledger.settlements import Lease
from budget.ledger.types import Charge, Limit, Measure, Scope, ScopeKind, Standing, Window
from gateway.budgets.reservation import Reservation, budget_headers, budget_summary, duration

LEASE = Lease("req_1", "blue", "k", None, None, " ", 0.0)
USD = 10**9


def standing(
    kind: ScopeKind,
    measure: Measure,
    window: Window,
    cap: int,
    *,
    spent: int = 0,
    held: int = 0,
    resets_in_s: float | None = None,
) -> Standing:
    return Standing(Limit(Scope("blue", kind, "x"), measure, window, cap), spent, held, resets_in_s)


def reserved(*standings: Standing, **changes) -> Reservation:
    fields: dict[str, Any] = {
        "lease": LEASE,
        "is_held": True,
        "nusd": USD,
        "tokens": 100,
        "standings": standings,
    }
    return Reservation("req_1", **(fields | changes))


def test_an_unlimited_caller_is_told_nothing():
    assert budget_headers(Reservation("r")) == []
    assert not Reservation("r").is_limited


def test_limits_per_minute_have_openai_s_headers():
    headers = budget_headers(
        reserved(
            standing("key", "requests", "minute", 60, spent=3, resets_in_s=12.0),
            standing("key", "tokens", "minute", 5000, held=100, resets_in_s=0.02),
            standing("team", "requests", "minute", 4, spent=3, resets_in_s=12.0),
        )
    )

    assert dict(headers) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"57",
        b"x-ratelimit-reset-requests": b"12s",
        b"x-ratelimit-limit-tokens": b"5000",
        b"x-ratelimit-remaining-tokens": b"4900",
        b"x-ratelimit-reset-tokens": b"20ms",
    }


def test_without_a_limit_of_the_key_the_tightest_that_binds_it_is_told():
    headers = budget_headers(
        reserved(
            standing("team", "requests", "minute", 9),
            standing("user", "requests", "minute", 5),
        )
    )

    assert dict(headers)[b"x-ratelimit-limit-requests"] == b"5"


def test_the_least_that_is_left_of_each_scope_is_told_but_not_the_team_s():
    standings = (
        standing("key", "nusd", "month", 10 * USD, spent=2 * USD, held=USD),
        standing("key", "nusd", "day", 4 * USD, spent=2 * USD, held=USD),
        standing("conversation", "tokens", "total", 1000, held=100),
        standing("team", "nusd", "month", 50 * USD),
    )

    assert dict(budget_headers(reserved(*standings))) == {
        b"x-waypost-budget-key-remaining-usd": b"1.000000000",
        b"x-waypost-budget-conversation-remaining-tokens": b"900",
    }
    assert budget_summary(reserved(*standings)) == {
        "key": {"remaining_usd": 1.0},
        "conversation": {"remaining_tokens": 900},
    }


def test_once_the_charge_is_known_the_rest_of_the_hold_counts_as_left():
    held = reserved(
        standing("key", "nusd", "day", 4 * USD, held=USD),
        standing("key", "tokens", "minute", 1000, held=100),
        standing("key", "requests", "minute", 10, spent=1),
    )

    headers = dict(budget_headers(held, Charge(USD // 4, 40)))

    assert headers[b"x-waypost-budget-key-remaining-usd"] == b"3.750000000"
    assert headers[b"x-ratelimit-remaining-tokens"] == b"960"
    assert headers[b"x-ratelimit-remaining-requests"] == b"9"


def test_the_granted_output_limit_is_told():
    granted = reserved(completion_tokens=500)

    assert budget_headers(granted) == [(b"x-waypost-budget-completion-tokens", b"500")]
    assert budget_summary(granted) == {"completion_tokens": 500}
    assert budget_summary(Reservation("r", completion_tokens=5)) == {"completion_tokens": 5}


def test_who_was_served_without_a_check_is_told_so():
    assert budget_summary(reserved(is_held=False), Charge(1, 1)) == {"is_unchecked": True}


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "0ms"), (0.02, "20ms"), (1, "1s"), (59.7, "1m0s"), (360, "6m0s"), (7325, "2h2m5s")],
)
def test_time_spans_are_written_as_openai_does(seconds, written):
    assert duration(seconds) == written
