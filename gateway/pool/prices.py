"""What a model costs: the settings' word, else the bundled catalogue's, else nothing is served.

The catalogue is genai-prices' bundled data; it is never fetched, and loaded (6 MB) when first asked
for. docs/decisions/prices.md
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from importlib import import_module
from typing import Any, Final

from budget.ledger.amounts import NUSD_PER_USD
from gateway.settings.config import ConfigurationError
from gateway.settings.prices import PriceSettings, RateSettings
from gateway.types import ModelPrice, PriceTier

KINDS: Final = (
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
)
"""The catalogue's names of the prices, in the order of `ModelPrice`."""


_PREFIXES: Final = {"google": "google/"}
"""What a host puts before names, where the catalogue does not: Vertex AI's OpenAI endpoint."""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """What the catalogue knows of one model.

    Attributes:
        context_tokens: None if unknown.
    """

    price: ModelPrice
    context_tokens: int | None


def catalogue_entry(
    catalogue: str, model: str, now: datetime, *, has_output: bool = True
) -> CatalogueEntry | None:
    """Look `model`, an upstream name, up at the provider `catalogue`; None if it has no price.

    Prices that depend on the day or hour are read as of `now`. A price that is missing or zero in
    either direction is none.

    Args:
        has_output: The model puts out tokens; where it does not, what it reads is all that costs.
    """
    named = model.removeprefix(_PREFIXES.get(catalogue, ""))
    try:
        _, known = _snapshot().find_provider_model(named, None, catalogue, None)
    except LookupError:
        return None
    prices = known.get_prices(now)
    price = price_in_tiers([getattr(prices, kind) for kind in KINDS], has_output=has_output)
    return None if price is None else CatalogueEntry(price, known.context_window)


def price_in_tiers(kinds: Sequence[Any], *, has_output: bool = True) -> ModelPrice | None:
    """Read the catalogue's prices, one for each of `KINDS`; some may have tiers, and some be None.

    Where one kind of token has a tier and another has not, the other's price stays.
    """
    starts = sorted({tier.start for kind in kinds for tier in getattr(kind, "tiers", ())})
    price = _price(kinds, 0, has_output=has_output)
    if price is None:
        return None
    tiers = ((start, _price(kinds, start + 1, has_output=has_output)) for start in starts)
    known = tuple(PriceTier(start, tier) for start, tier in tiers if tier is not None)
    return replace(price, tiers=known)


def catalogue_of(provider: str, base_url: str) -> str | None:
    """Name the catalogue's provider for one of the settings', by name or by address."""
    snapshot = _snapshot()
    for by_name, by_url in ((provider, None), (None, base_url)):
        try:
            return str(snapshot.find_provider(None, by_name, by_url).id)
        except LookupError:
            continue
    return None


def price_of(
    catalogue: str | None,
    model: str,
    override: PriceSettings | None,
    *,
    table: str | None = None,
    now: datetime | None = None,
    has_output: bool = True,
) -> ModelPrice:
    """Return the price of `model`: the override's, or the catalogue's; never an assumed zero.

    Raises:
        ConfigurationError: Neither knows it; the message says what to write for `table`.
    """
    if override is not None:
        return declared_price(override)
    entry = None
    if catalogue:
        moment = now or datetime.now(UTC)
        entry = catalogue_entry(catalogue, model, moment, has_output=has_output)
    if entry is None:
        table = table or model
        where = f"provider {catalogue!r} of the price catalogue" if catalogue else "any catalogue"
        raise ConfigurationError(
            f"models.{table}: no price for {model!r} in {where}; set one:\n"
            f'[models."{table}".price]\n'
            f"input_usd_per_mtok = 0.50\n"
            f"output_usd_per_mtok = 1.50"
        )
    return entry.price


def declared_price(settings: PriceSettings) -> ModelPrice:
    """Turn the settings' USD into nano-USD."""
    tiers = sorted(settings.tiers, key=lambda tier: tier.above_prompt_tokens)
    return replace(
        _declared_rates(settings),
        tiers=tuple(PriceTier(tier.above_prompt_tokens, _declared_rates(tier)) for tier in tiers),
        search_unit_nusd=_declared_or_none(settings.search_unit_usd) or 0,
    )


def _declared_rates(settings: RateSettings) -> ModelPrice:
    return ModelPrice(
        declared_nusd(settings.input_usd_per_mtok),
        declared_nusd(settings.output_usd_per_mtok),
        _declared_or_none(settings.cached_input_usd_per_mtok),
        _declared_or_none(settings.cache_write_usd_per_mtok),
        _declared_or_none(settings.cache_write_1h_usd_per_mtok),
    )


def _declared_or_none(usd: float | None) -> int | None:
    return None if usd is None else declared_nusd(usd)


def declared_nusd(usd: float) -> int:
    """Turn an amount of USD of the settings into nano-USD, rounded up."""
    if usd == float("inf"):
        raise ConfigurationError(
            "models.NAME.price: a price must be a finite number of USD per million tokens"
        )
    return _exact(Decimal(repr(usd)))


def _price(kinds: Sequence[Any], prompt_tokens: int, *, has_output: bool) -> ModelPrice | None:
    """Read what a call with so many prompt tokens costs; None where it is not known, or nothing."""
    paid, earned, read, write, write_1h = (_nusd(kind, prompt_tokens) for kind in kinds)
    if paid and not has_output:
        return ModelPrice(paid, 0, read, write, write_1h)
    return ModelPrice(paid, earned, read, write, write_1h) if paid and earned else None


def _nusd(price: Any, prompt_tokens: int) -> int | None:
    """Read one of the catalogue's prices, USD per million tokens."""
    usd = getattr(price, "base", price)  # of prices in tiers
    for tier in getattr(price, "tiers", ()):
        if prompt_tokens > tier.start:
            usd = tier.price
    return _exact(usd) if isinstance(usd, Decimal) else None


def _exact(usd: Decimal) -> int:
    return int((usd * NUSD_PER_USD).to_integral_value(ROUND_CEILING))


def _snapshot() -> Any:
    return import_module("genai_prices.data_snapshot").get_snapshot()
