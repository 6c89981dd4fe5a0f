import pytest

from budget.errors import BudgetExhausted
from budget.ledger.types import Limit, Measure, Scope, Standing, Window
from gateway.budgets.refusals import refused, turn_refused
from gateway.budgets.worst_case import WorstCase, worst_case
from gateway.errors import RateLimited
from gateway.settings.config import BudgetSettings
from tests.fakes.budgets import hosted


def need(**body) -> WorstCase:
    return worst_case(body, (hosted(),), 1000, BudgetSettings())


def standing(measure: Measure, window: Window, cap: int = 10, spent: int = 8) -> Standing:
    return Standing(Limit(Scope("blue", "key", "k"), measure, window, cap), spent, 0, 30.0)


@pytest.mark.parametrize(
    ("measure", "window", "kind"),
    [
        ("nusd", "total", BudgetExhausted),
        ("nusd", "minute", RateLimited),
        ("tokens", "day", BudgetExhausted),
        ("tokens", "minute", RateLimited),
        ("requests", "day", RateLimited),
        ("concurrent", "now", RateLimited),
    ],
)
def test_a_rate_that_passes_is_not_a_budget_that_is_spent(measure, window, kind):
    error = refused(standing(measure, window), 30.0, need())

    assert type(error) is kind
    assert (error.limit_source, error.retry_after_s) == ("key", 30.0)


def test_the_message_says_what_is_left_and_what_was_asked():
    money = Standing(
        Limit(Scope("b", "conversation", "c"), "nusd", "month", 10**9), 999_000_000, 0, 9.0
    )

    assert str(refused(money, 90.0, need(max_tokens=500))) == (
        "This conversation may use 1.00 USD per month, of which 0.001 USD is left. "
        "This request may cost 0.002 USD with the output limit it sets. Try again in 1m30s."
    )
    assert "1016 tokens at least. Shorten" in str(
        refused(standing("tokens", "total"), None, need())
    )
    assert str(refused(standing("requests", "day"), None, need())) == (
        "This key may use 10 requests per day, of which 2 requests is left. "
        "Ask your operator to raise it."
    )


def test_a_refusal_says_where_the_limit_stands():
    limited = refused(standing("requests", "minute", cap=3, spent=2), 30.0, need())

    assert dict(limited.headers)[b"x-ratelimit-limit-requests"] == b"3"
    exhausted = refused(standing("tokens", "day"), 30.0, need())
    assert dict(exhausted.headers) == {b"x-waypost-budget-key-remaining-tokens": b"2"}


def test_a_request_dearer_than_one_may_be_is_told_so():
    error = turn_refused(Limit(Scope("blue", "turn"), "tokens", "total", 7), need())

    assert error.limit_source == "turn"
    assert "7 tokens per request" in error.message
