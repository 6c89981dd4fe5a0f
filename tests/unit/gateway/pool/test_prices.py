from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pool.prices import catalogue_entry, catalogue_of, declared_price, price_of
from gateway.settings.config import ConfigurationError, PriceSettings
from gateway.types import ModelPrice, Usage

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
USD = 1_000_000_000


def test_reads_a_price_from_the_catalogue() -> None:
    entry = catalogue_entry("openai", "gpt-4o-mini", NOW)
    assert entry is not None
    assert entry.price == ModelPrice(USD * 15 // 100, USD * 6 // 10, USD * 75 // 1000)
    assert entry.context_tokens == 128_000
    assert entry.dearer_above_tokens is None


def test_takes_the_lowest_of_several_tiers_and_says_so() -> None:
    entry = catalogue_entry("anthropic", "claude-sonnet-4-5", NOW)
    assert entry is not None
    assert entry.price.input_nusd_per_mtok == 3 * USD
    assert entry.dearer_above_tokens == 200_000


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
    )
    assert declared_price(declared) == ModelPrice(USD, 2 * USD, USD // 10, USD * 5 // 4)


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
