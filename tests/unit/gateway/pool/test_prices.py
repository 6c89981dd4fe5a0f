from dataclasses import asdict, replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices.types import Tier, TieredPrices
from hypothesis import given
from hypothesis import strategies as st

from gateway.pool.prices import (
    catalogue_entry,
    catalogue_of,
    declared_price,
    price_in_tiers,
    price_of,
)
from gateway.settings.config import ConfigurationError
from gateway.settings.prices import PriceSettings
from gateway.types import ModelPrice, PriceTier, Usage

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
USD = 1_000_000_000


def test_reads_a_price_from_the_catalogue() -> None:
    entry = catalogue_entry("openai", "gpt-4o-mini", NOW)
    assert entry is not None
    assert entry.price == ModelPrice(USD * 15 // 100, USD * 6 // 10, USD * 75 // 1000)
    assert entry.context_tokens == 128_000


SONNET = ModelPrice(3 * USD, 15 * USD, USD * 3 // 10, USD * 375 // 100, 6 * USD)
LONG_SONNET = ModelPrice(6 * USD, USD * 225 // 10, USD * 6 // 10, USD * 75 // 10, 12 * USD)


def test_reads_the_tiers_of_a_price() -> None:
    entry = catalogue_entry("anthropic", "claude-sonnet-4-5", NOW)
    assert entry is not None
    assert entry.price == replace(SONNET, tiers=(PriceTier(200_000, LONG_SONNET),))


def test_a_tier_that_one_kind_of_token_has_is_a_tier_of_all() -> None:
    kinds = [
        TieredPrices(base=Decimal(1), tiers=[Tier(start=10, price=Decimal(2))]),
        TieredPrices(base=Decimal(3), tiers=[Tier(start=20, price=Decimal(4))]),
        Decimal("0.5"),
        None,
        None,
    ]
    assert price_in_tiers(kinds) == ModelPrice(
        USD,
        3 * USD,
        USD // 2,
        tiers=(
            PriceTier(10, ModelPrice(2 * USD, 3 * USD, USD // 2)),
            PriceTier(20, ModelPrice(2 * USD, 4 * USD, USD // 2)),
        ),
    )


def in_tiers(price: ModelPrice, *tiers: PriceTier) -> ModelPrice:
    return replace(price, tiers=tiers)


STEPS = (PriceTier(100, ModelPrice(20, 40)), PriceTier(200, ModelPrice(30, 60, 3, 33, 66)))


@pytest.mark.parametrize(
    ("price", "usage", "cost"),
    [
        (in_tiers(ModelPrice(10, 20), *STEPS), Usage(100, 10), 100 * 10 + 10 * 20),
        (in_tiers(ModelPrice(10, 20), *STEPS), Usage(101, 10), 101 * 20 + 10 * 40),
        (in_tiers(ModelPrice(10, 20), *STEPS), Usage(200, 10), 200 * 20 + 10 * 40),
        (in_tiers(ModelPrice(10, 20), *STEPS), Usage(201, 0), 201 * 30),
        (
            in_tiers(ModelPrice(10, 20), *STEPS),
            Usage(300, 1, cached_tokens=50, cache_write_tokens=40, cache_write_1h_tokens=30),
            210 * 30 + 50 * 3 + 10 * 33 + 30 * 66 + 60,
        ),
        (ModelPrice(10, 20), Usage(9, 0, 2, 3, cache_write_1h_tokens=3), 90),
        (ModelPrice(10, 20, 1, 12), Usage(9, 0, 2, 3, cache_write_1h_tokens=3), 40 + 2 + 36),
        (ModelPrice(10, 20, 1, 12, 19), Usage(9, 0, 2, 3, cache_write_1h_tokens=2), 40 + 2 + 50),
    ],
    ids=[
        "up to the first tier",
        "above it",
        "up to the second",
        "above it too",
        "every kind of token",
        "an hour costs what other input does",
        "an hour costs what other writes do",
        "an hour has its own price",
    ],
)
def test_a_call_is_charged_at_the_price_of_its_tier_and_of_each_kind_of_token(
    price: ModelPrice, usage: Usage, cost: int
) -> None:
    assert scaled(price).cost_nusd(usage) == cost


def scaled(price: ModelPrice) -> ModelPrice:
    """Turn prices per token into prices per million."""
    rates = {
        name: rate * 10**6
        for name, rate in asdict(price).items()
        if name != "tiers" and rate is not None
    }
    tiers = tuple(PriceTier(t.above_prompt_tokens, scaled(t.price)) for t in price.tiers)
    return ModelPrice(**rates, tiers=tiers)


def test_reads_prices_as_of_a_day() -> None:
    before = catalogue_entry("openrouter", "~anthropic/claude-haiku-latest", NOW.replace(month=9))
    after = catalogue_entry("openrouter", "~anthropic/claude-haiku-latest", NOW)
    assert before is not None
    assert after is not None
    assert before.price != after.price


@pytest.mark.parametrize(
    ("catalogue", "model"),
    [
        ("openai", "no-such-model"),
        ("nobody", "gpt-4o"),
        ("openai", "text-embedding-3-small"),
        ("openrouter", "meta-llama/llama-4-scout:free"),
    ],
)
def test_a_missing_or_zero_price_is_none(catalogue: str, model: str) -> None:
    assert catalogue_entry(catalogue, model, NOW) is None


def test_an_unknown_price_is_refused_with_what_to_write() -> None:
    with pytest.raises(ConfigurationError) as caught:
        price_of("openai", "my-model", None, table="mine", now=NOW)
    message = str(caught.value)
    assert "models.mine" in message
    assert "'my-model'" in message
    assert '[models."mine".price]' in message
    assert "input_usd_per_mtok" in message


def test_a_provider_outside_the_catalogue_is_refused_too() -> None:
    with pytest.raises(ConfigurationError, match=r"models\.my-model: no price"):
        price_of(None, "my-model", None)


def test_the_settings_override_the_catalogue() -> None:
    declared = PriceSettings(input_usd_per_mtok=0.1, output_usd_per_mtok=0)
    assert price_of("openai", "gpt-4o", declared) == ModelPrice(USD // 10, 0)


def test_the_catalogue_serves_without_settings() -> None:
    assert price_of("openai", "gpt-4o", None).output_nusd_per_mtok == 10 * USD


def test_declares_cache_prices() -> None:
    declared = PriceSettings(
        input_usd_per_mtok=1,
        output_usd_per_mtok=2,
        cached_input_usd_per_mtok=0.1,
        cache_write_usd_per_mtok=1.25,
        cache_write_1h_usd_per_mtok=2,
    )
    assert declared_price(declared) == ModelPrice(USD, 2 * USD, USD // 10, USD * 5 // 4, 2 * USD)


def test_declares_tiers_in_any_order() -> None:
    tiers = [
        {"above_prompt_tokens": above, "input_usd_per_mtok": usd, "output_usd_per_mtok": usd}
        for above, usd in ((200, 3), (100, 2))
    ]
    declared = PriceSettings.model_validate(
        {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1, "tiers": tiers}
    )
    assert declared_price(declared).tiers == (
        PriceTier(100, ModelPrice(2 * USD, 2 * USD)),
        PriceTier(200, ModelPrice(3 * USD, 3 * USD)),
    )


def test_an_endless_price_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="finite"):
        declared_price(PriceSettings(input_usd_per_mtok=float("inf"), output_usd_per_mtok=1))


@given(st.decimals(0, 1000, places=6))
def test_declared_prices_are_exact(usd: object) -> None:
    price = float(str(usd))
    declared = declared_price(PriceSettings(input_usd_per_mtok=price, output_usd_per_mtok=0))
    assert declared.input_nusd_per_mtok == round(price * USD)


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_a_call_is_never_cheaper_than_its_tokens(prompt: int, completion: int) -> None:
    price = price_of("openai", "gpt-4o", None)
    assert price.cost_nusd(Usage(prompt, completion)) * 10**6 >= (
        prompt * price.input_nusd_per_mtok + completion * price.output_nusd_per_mtok
    )


@pytest.mark.parametrize(
    ("name", "base_url", "catalogue"),
    [
        ("openai", "http://proxy.internal/v1", "openai"),
        ("mine", "https://api.openai.com/v1", "openai"),
        ("az", "https://x.openai.azure.com", "azure"),
        ("mine", "http://10.0.0.7:8000/v1", None),
    ],
)
def test_finds_the_catalogues_provider_by_name_or_address(
    name: str, base_url: str, catalogue: str | None
) -> None:
    assert catalogue_of(name, base_url) == catalogue
