from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.budgets.worst_case import MAX_TOKENS, WorstCase, with_output_limit, worst_case
from gateway.errors import InvalidRequest
from gateway.providers.usage import whole_usage
from gateway.settings.config import BudgetSettings
from gateway.types import Capabilities, ModelPrice, PriceTier
from tests.fakes.budgets import hosted

SETTINGS = BudgetSettings()
COUNTS = ("prompt", "completion", "cached", "cache_write", "cache_write_1h", "reasoning")


def bound(body=None, *models, prompt_tokens: int = 10) -> WorstCase:
    return worst_case(body or {}, models or (hosted(),), prompt_tokens, SETTINGS)


def test_the_dearest_model_of_the_plan_counts():
    need = bound({}, hosted(input_usd=1, output_usd=9), hosted(input_usd=5, output_usd=2))

    assert need.prompt_nusd == 10 * 5000
    assert need.completion_nusd_per_mtok == 9 * 10**9


def test_writing_to_the_prompt_cache_may_be_dearer_than_reading_a_prompt():
    price = ModelPrice(10**9, 10**9, 10**8, 125 * 10**7)

    assert bound({}, hosted(price=price)).prompt_nusd == 12500


def test_a_prompt_may_be_written_to_the_cache_for_an_hour():
    price = ModelPrice(10**9, 10**9, 10**8, 125 * 10**7, 2 * 10**9)

    assert bound({}, hosted(price=price)).prompt_nusd == 20_000


def test_a_prompt_that_may_be_long_is_held_at_the_price_of_long_ones():
    long = PriceTier(100, ModelPrice(2 * 10**9, 3 * 10**9))
    model = hosted(price=ModelPrice(10**9, 10**9, tiers=(long,)))

    short, maybe_long = bound({}, model, prompt_tokens=100), bound({}, model, prompt_tokens=101)

    assert (short.prompt_nusd, short.completion_nusd_per_mtok) == (100_000, 10**9)
    assert (maybe_long.prompt_nusd, maybe_long.completion_nusd_per_mtok) == (202_000, 3 * 10**9)


def test_an_output_limit_of_the_caller_is_least_and_most():
    need = bound({"max_tokens": 100, "n": 3})

    assert (need.least_completion_tokens, need.most_completion_tokens) == (300, 300)
    assert need.per_choice(300) is None
    assert bound({"max_tokens": 5, "max_completion_tokens": 9}).most_completion_tokens == 9


def test_without_a_limit_the_model_s_longest_answer_is_the_most():
    assert bound().most_completion_tokens == 16_384
    limited = hosted(capabilities=Capabilities(max_output_tokens=4096))
    assert bound({"n": 2}, limited).most_completion_tokens == 8192
    need = bound({"n": 2}, hosted(request_defaults={"max_tokens": 50}), limited)
    assert (need.least_completion_tokens, need.most_completion_tokens) == (32, 8192)
    assert need.per_choice(101) == 50
    assert bound({}, hosted(request_defaults={"max_tokens": 8})).least_completion_tokens == 8


def test_what_a_model_adds_to_the_prompt_is_counted():
    added = hosted(system_prompt="é" * 10)
    assert bound({}, added).prompt_tokens == 30
    assert bound({}, hosted(request_defaults={"n": 4})).choices == 4
    assert bound({}, hosted(request_defaults={"tools": ["x" * 100]})).prompt_tokens > 110


@pytest.mark.parametrize("field", ["n", "max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("value", ["100", 0, -1, 1.5, True, 2**40, [1]])
def test_a_limit_that_could_be_read_in_two_ways_is_refused(field, value):
    with pytest.raises(InvalidRequest) as refused:
        bound({field: value})

    assert refused.value.param == field


def test_null_is_no_limit():
    assert not bound({"n": None, "max_tokens": None}).is_capped


@pytest.mark.parametrize(
    ("upstream", "field"),
    [
        ("gpt-5-mini", "max_completion_tokens"),
        ("openai/o3", "max_completion_tokens"),
        ("claude-sonnet-4-5", "max_tokens"),
        ("mistral-large", "max_tokens"),
    ],
)
def test_the_granted_limit_is_sent_by_the_name_the_model_takes(upstream, field):
    body: dict[str, Any] = {"messages": []}

    sent = with_output_limit(body, hosted(upstream_name=upstream), 70)

    assert sent == {"messages": [], field: 70}
    assert body == {"messages": []}
    assert with_output_limit(body, hosted(), None) is body


def test_a_model_s_own_limits_still_hold():
    small = hosted(capabilities=Capabilities(max_output_tokens=50))
    assert with_output_limit({}, small, 70) == {"max_tokens": 50}
    shy = hosted(request_defaults={"max_completion_tokens": 20})
    assert with_output_limit({}, shy, 70) == {"max_completion_tokens": 20}


def test_what_a_cap_affords():
    need = bound({}, hosted(input_usd=1, output_usd=2))

    assert need.afforded(30, "tokens") == 20
    assert need.afforded(10_000, "nusd") == 0
    assert need.afforded(9_999, "nusd") == -1
    free = bound({}, hosted(input_usd=0, output_usd=0))
    assert free.afforded(0, "nusd") == MAX_TOKENS


amounts = st.integers(0, 10**6)
prices = st.integers(0, 10**11)


rates = st.builds(ModelPrice, prices, prices, *[st.none() | prices] * 3)
steps = st.lists(st.builds(PriceTier, amounts, rates), max_size=3)
usages = st.builds(whole_usage, **dict.fromkeys(COUNTS, amounts)).filter(bool)


@given(usages, amounts, rates, steps, st.integers(0, 10**9))
def test_no_usage_within_the_bounds_costs_more_than_the_worst_case(usage, more, price, tiers, cap):
    price = replace(price, tiers=tuple(sorted(tiers, key=lambda tier: tier.above_prompt_tokens)))
    prompt, completion = usage.prompt_tokens + more, usage.completion_tokens
    need = worst_case({}, (hosted(price=price),), prompt, SETTINGS)

    assert price.cost_nusd(usage) <= need.cost_nusd(completion)
    afforded = need.afforded(cap, "nusd")
    assert afforded < 0 or need.cost_nusd(afforded) <= cap
