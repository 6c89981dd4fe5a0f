"""What answers are expected to cost: tokens of prompt and answer, at the prices of today."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

import numpy as np

from budget.ledger.amounts import NUSD_PER_USD, TOKENS_PER_MTOK
from gateway.expected_tokens import expected_tokens
from gateway.providers.lacks import OUTPUT_LIMITS
from gateway.types import HostedModel
from router_models.types import Float64

PER_TOKEN = NUSD_PER_USD * TOKENS_PER_MTOK


class Warmth(NamedTuple):
    """What the providers' caches may hold of a conversation: tokens, for each model of a pool.

    Attributes:
        cached: Of this call's prompt, that the model is expected to find in its cache.
        if_called: Of the next call's, that it will find if it is called now.
        if_not: And if another model is called now.
        chance: That there is a next call, on the model that is called now.
        is_marked: The caller marks what is to be cached.
    """

    cached: Sequence[float]
    if_called: Sequence[float]
    if_not: Sequence[float]
    chance: Sequence[float]
    is_marked: bool


class CacheCosts(NamedTuple):
    """What caches change in the costs of a pool's models; see `PoolPrices.cache_costs`.

    Attributes:
        cached_tokens: That each model is expected to read from its cache.
        added_usd: To the cost of this call; mostly less than 0.
        saved_later_usd: By the next call, if the model is called now.
    """

    cached_tokens: tuple[float, ...]
    added_usd: tuple[float, ...]
    saved_later_usd: tuple[float, ...]


class Rates(NamedTuple):
    """What one model charges for prompts of some length.

    Attributes:
        own_usd: For what the model adds to a prompt.
        prompt_usd: Per token.
        completion_usd: Per token.
    """

    own_usd: float
    prompt_usd: float
    completion_usd: float


class CacheRates(NamedTuple):
    """What a model's cache changes in the price of a token of the prompt.

    Attributes:
        saved_usd: By reading it from the cache.
        premium_usd: For writing it there, where a caller has to ask for that.
    """

    saved_usd: float
    premium_usd: float


@dataclass(frozen=True, slots=True, eq=False)
class PoolPrices:
    """The prices of a pool of models, laid out so that a request takes one look-up.

    Attributes:
        starts: Prompt tokens of a request, in order, above which some model has other prices.
        rates: Of each model: up to the first of `starts`, then above each of them.
        cache_rates: Likewise.
        arrays: `rates` as arrays of shape ``(3, n_models)``; not of a part of a pool.
    """

    starts: tuple[int, ...]
    rates: tuple[tuple[Rates, ...], ...]
    cache_rates: tuple[tuple[CacheRates, ...], ...]
    arrays: tuple[Float64, ...]

    @classmethod
    def of(cls, models: Sequence[HostedModel]) -> "PoolPrices":
        """Lay out the prices of `models`."""
        own = [round(expected_tokens(model.system_prompt or "")) for model in models]
        pairs = list(zip(models, own, strict=True))
        starts = sorted({t.above_prompt_tokens - n for m, n in pairs for t in m.price.tiers})
        lengths = [starts[0] if starts else 0, *(start + 1 for start in starts)]
        rates = tuple(tuple(_rates(model, own, n) for model, own in pairs) for n in lengths)
        return cls(
            tuple(starts),
            rates,
            tuple(tuple(_cache_rates(model, own, n) for model, own in pairs) for n in lengths),
            tuple(np.array(each, np.float64).reshape(-1, 3).T for each in rates),
        )

    def cost_usd(
        self, prompt_tokens: int, completion_tokens: Sequence[float | None]
    ) -> tuple[float | None, ...]:
        """Price a request whose answer has so many tokens; None where nobody knows how many.

        Nothing of the prompt is taken to be cached; `cache_costs` says what that changes.
        """
        rates = self.rates[bisect_left(self.starts, prompt_tokens)]
        return tuple(
            [
                None if tokens is None else own + prompt_tokens * prompt + tokens * completion
                for tokens, (own, prompt, completion) in zip(completion_tokens, rates, strict=True)
            ]
        )

    def costs_usd(self, prompt_tokens: int, completion_tokens: Float64) -> Float64:
        """Price a request as `cost_usd` does, for a large pool; unknown counts are not numbers."""
        own, prompt, completion = self.arrays[bisect_left(self.starts, prompt_tokens)]
        found: Float64 = own + prompt_tokens * prompt + completion_tokens * completion
        return found

    def part(self, pick: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> "PoolPrices":
        """Return the prices of the models that `pick` picks."""
        rates, cache_rates = map(pick, self.rates), map(pick, self.cache_rates)
        return PoolPrices(self.starts, tuple(rates), tuple(cache_rates), ())

    def cache_costs(self, prompt_tokens: int, warmth: Warmth) -> CacheCosts:
        """Price what is in the caches, and what this call puts there.

        Of a model whose cached tokens cost `saved` less than others, and written ones `premium`
        more (0 unless the caller marks what to write; then a model with a premium caches nothing):

            added       = premium * (prompt - cached) - saved * cached
            saved later = chance * (saved + premium) * (if called - if not called)

        Leaving a warm cache costs what the next call would have found there, and not without this
        one. The price of reading a prompt into a cold cache is spread over the calls that will find
        it there: where each call is the last but with probability `chance`, 1 / (1 - chance) do.
        """
        rates = self.cache_rates[bisect_left(self.starts, prompt_tokens)]
        cached_tokens, added, later = [], [], []
        of_models = warmth.cached, warmth.if_called, warmth.if_not, warmth.chance
        for (saved, premium), cached, if_called, if_not, chance in zip(
            rates, *of_models, strict=True
        ):
            if not saved or (premium and not warmth.is_marked):
                cached_tokens.append(0.0)
                added.append(0.0)
                later.append(0.0)
                continue
            cached_tokens.append(cached)
            added.append(premium * (prompt_tokens - cached) - saved * cached)
            later.append(chance * (saved + premium) * (if_called - if_not))
        return CacheCosts(tuple(cached_tokens), tuple(added), tuple(later))


def asked_limit(body: Mapping[str, Any]) -> float:
    """Return the output limit that the caller set; infinity without one."""
    if body.keys().isdisjoint(OUTPUT_LIMITS):
        return inf
    limits = [body.get(name) for name in OUTPUT_LIMITS]
    return max([limit for limit in limits if type(limit) is int and limit > 0], default=inf)


def bounded(completion_tokens: Sequence[float | None], limit: float) -> tuple[float | None, ...]:
    """Expect no answer to have more tokens than `limit`."""
    return tuple([None if each is None else min(each, limit) for each in completion_tokens])


def _cache_rates(model: HostedModel, own_tokens: int, prompt_tokens: int) -> CacheRates:
    price = model.price.up_to(prompt_tokens + own_tokens)[-1]
    plain, (cached, write, _) = price.input_nusd_per_mtok, price.cache_nusd_per_mtok
    return CacheRates(max(plain - cached, 0) / PER_TOKEN, max(write - plain, 0) / PER_TOKEN)


def _rates(model: HostedModel, own_tokens: int, prompt_tokens: int) -> Rates:
    price = model.price.up_to(prompt_tokens + own_tokens)[-1]
    prompt, completion = (
        price.input_nusd_per_mtok / PER_TOKEN,
        price.output_nusd_per_mtok / PER_TOKEN,
    )
    return Rates(own_tokens * prompt, prompt, completion)
