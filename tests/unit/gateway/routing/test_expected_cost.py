from math import inf

import pytest

from gateway.expected_tokens import expected_tokens
from gateway.routing.expected_cost import PoolPrices, asked_limit
from gateway.types import HostedModel, ModelPrice, PriceTier, Usage

DEAR = ModelPrice(3_000_000_000, 15_000_000_000, cached_input_nusd_per_mtok=300_000_000)
TIERED = ModelPrice(
    1_000_000_000,
    4_000_000_000,
    tiers=(
        PriceTier(1_000, ModelPrice(2_000_000_000, 6_000_000_000)),
        PriceTier(50_000, ModelPrice(5_000_000_000, 5_000_000_000)),
    ),
)
OTHER_TIERS = ModelPrice(1, 1, tiers=(PriceTier(20_000, DEAR),))


def hosted(price: ModelPrice, system_prompt: str | None = None) -> HostedModel:
    return HostedModel("m", "p", "m", price, system_prompt=system_prompt)


POOL = tuple(map(hosted, (DEAR, TIERED, OTHER_TIERS)))


@pytest.mark.parametrize(
    "prompt_tokens", [0, 1, 1_000, 1_001, 20_000, 20_001, 50_000, 50_001, 10**6]
)
def test_expects_what_a_call_of_so_many_tokens_is_charged(prompt_tokens) -> None:
    found = PoolPrices.of(POOL).cost_usd(prompt_tokens, [300.0, 300.0, 300.0])
    charged = [m.price.cost_nusd(Usage(prompt_tokens, 300)) / 1e9 for m in POOL]
    assert found == pytest.approx(charged, abs=2e-9)


def test_a_model_nothing_is_predicted_of_has_no_cost() -> None:
    assert PoolPrices.of(POOL).cost_usd(10, [None, 1.0, None])[::2] == (None, None)


def test_what_a_model_adds_to_a_prompt_is_paid_for_and_reaches_its_tiers() -> None:
    added = "Answer briefly. " * 100
    own = round(expected_tokens(added))
    prices = PoolPrices.of([hosted(TIERED, added), hosted(TIERED)])
    longer, plain = prices.cost_usd(1_000, [0.0, 0.0])
    assert longer == pytest.approx(TIERED.cost_nusd(Usage(1_000 + own, 0)) / 1e9)
    assert plain == pytest.approx(TIERED.cost_nusd(Usage(1_000, 0)) / 1e9)


def test_an_empty_pool_costs_nothing() -> None:
    assert PoolPrices.of(()).cost_usd(10, []) == ()


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        ({}, inf),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7, "max_tokens": 5}, 7),
        ({"max_tokens": "5"}, inf),
        ({"max_tokens": True}, inf),
        ({"max_tokens": -1}, inf),
    ],
)
def test_reads_the_output_limit_that_a_caller_set(body, limit) -> None:
    assert asked_limit(body) == limit
