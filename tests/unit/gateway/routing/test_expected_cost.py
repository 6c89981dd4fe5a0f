from math import inf

import pytest

from gateway.expected_tokens import expected_tokens
from gateway.routing.expected_cost import PoolPrices, Warmth, asked_limit
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


PREMIUM = ModelPrice(3_000_000_000, 15_000_000_000, 300_000_000, 3_750_000_000)
SAME = ModelPrice(3_000_000_000, 15_000_000_000)


def warmth(cached, if_called, if_not, chance=0.5, *, is_marked=False) -> Warmth:
    return Warmth([cached], [if_called], [if_not], [chance], is_marked)


@pytest.mark.parametrize("prompt_tokens", [10_000, 60_000])
@pytest.mark.parametrize(
    "price", [DEAR, PREMIUM, ModelPrice(10**9, 10**9, 10**8, tiers=TIERED.tiers)]
)
def test_expects_what_is_charged_for_a_prompt_that_is_partly_cached(prompt_tokens, price) -> None:
    cached, prices = 8_000, PoolPrices.of([hosted(price)])
    found = prices.cache_costs(prompt_tokens, warmth(cached, 0.0, 0.0, is_marked=True))
    (plain,) = prices.cost_usd(prompt_tokens, [300.0])
    written = 0 if price.cache_write_nusd_per_mtok is None else prompt_tokens - cached
    usage = Usage(prompt_tokens, 300, cached, written)
    assert (plain or 0) + found.added_usd[0] == pytest.approx(price.cost_nusd(usage) / 1e9)


def test_what_a_cache_saves_later_is_the_chance_of_it_times_what_a_call_puts_there() -> None:
    prices = PoolPrices.of([hosted(DEAR)])
    cold = prices.cache_costs(10_000, warmth(0.0, 9_000.0, 0.0)).saved_later_usd[0]
    warm = prices.cache_costs(10_000, warmth(9_000.0, 9_000.0, 8_000.0)).saved_later_usd[0]
    assert cold == pytest.approx(0.5 * 9_000 * 2.7e-6)
    assert warm == pytest.approx(cold / 9)


def test_reading_into_a_cold_cache_costs_each_of_the_calls_that_find_it_their_part() -> None:
    chance, tokens = 0.9, 10_000
    prices = PoolPrices.of([hosted(DEAR)])
    (cold,) = prices.cost_usd(tokens, [0.0])
    found = prices.cache_costs(tokens, warmth(0.0, tokens, 0.0, chance))
    calls = 1 / (1 - chance)
    spread = (tokens * 3e-6 + (calls - 1) * tokens * 0.3e-6) / calls
    assert (cold or 0) - found.saved_later_usd[0] == pytest.approx(spread)


@pytest.mark.parametrize(
    ("price", "is_marked"),
    [(SAME, True), (PREMIUM, False), (ModelPrice(10**9, 10**9, 2 * 10**9), True)],
)
def test_a_cache_that_is_not_cheaper_or_not_asked_for_changes_nothing(price, is_marked) -> None:
    found = PoolPrices.of([hosted(price)]).cache_costs(
        10_000, warmth(8_000.0, 9_000.0, 1_000.0, is_marked=is_marked)
    )
    assert (found.cached_tokens, found.added_usd, found.saved_later_usd) == ((0.0,), (0.0,), (0.0,))
