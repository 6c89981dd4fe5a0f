"""What a model costs: the settings' word, else the bundled catalogue's, else nothing is served.

The catalogue is genai-prices' bundled data; it is never fetched, and loaded (6 MB) when first asked
for. docs/decisions/prices.md
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from importlib import import_module
from typing import Any

from budget.ledger.amounts import NUSD_PER_USD
from gateway.settings.config import ConfigurationError, PriceSettings
from gateway.types import ModelPrice


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """What the catalogue knows of one model.

    Attributes:
        context_tokens: None if unknown.
        dearer_above_tokens: Input tokens above which the provider charges more than `price`; None
            if it never does.
    """

    price: ModelPrice
    context_tokens: int | None
    dearer_above_tokens: int | None


def catalogue_entry(catalogue: str, model: str, now: datetime) -> CatalogueEntry | None:
    """Look `model`, an upstream name, up at the provider `catalogue`; None if it has no price.

    Prices that depend on the day or hour are read as of `now`; of prices in tiers the lowest tier
    is taken. A price that is missing or zero in either direction is none.
    """
    try:
        _, known = _snapshot().find_provider_model(model, None, catalogue, None)
    except LookupError:
        return None
    prices = known.get_prices(now)
    paid = _nusd(prices.input_mtok)
    earned = _nusd(prices.output_mtok)
    if not paid or not earned:
        return None
    price = ModelPrice(paid, earned, _nusd(prices.cache_read_mtok), _nusd(prices.cache_write_mtok))
    return CatalogueEntry(price, known.context_window, _first_tier(prices.input_mtok))


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
) -> ModelPrice:
    """Return the price of `model`: the override's, or the catalogue's; never an assumed zero.

    Raises:
        ConfigurationError: Neither knows it; the message says what to write for `table`.
    """
    if override is not None:
        return declared_price(override)
    entry = catalogue_entry(catalogue, model, now or datetime.now(UTC)) if catalogue else None
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
    return ModelPrice(
        _declared(settings.input_usd_per_mtok),
        _declared(settings.output_usd_per_mtok),
        _declared_or_none(settings.cached_input_usd_per_mtok),
        _declared_or_none(settings.cache_write_usd_per_mtok),
    )


def _declared_or_none(usd: float | None) -> int | None:
    return None if usd is None else _declared(usd)


def _declared(usd: float) -> int:
    if usd == float("inf"):
        raise ConfigurationError(
            "models.NAME.price: a price must be a finite number of USD per million tokens"
        )
    return _exact(Decimal(repr(usd)))


def _nusd(price: Any) -> int | None:
    """Read one of the catalogue's prices, USD per million tokens."""
    base = getattr(price, "base", price)  # of prices in tiers
    return _exact(base) if isinstance(base, Decimal) else None


def _exact(usd: Decimal) -> int:
    return int((usd * NUSD_PER_USD).to_integral_value(ROUND_CEILING))


def _first_tier(price: Any) -> int | None:
    tiers = getattr(price, "tiers", None)
    return tiers[0].start if tiers else None


def _snapshot() -> Any:
    return import_module("genai_prices.data_snapshot").get_snapshot()
