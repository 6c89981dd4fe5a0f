"""What answers are expected to cost: tokens of prompt and answer, at the prices of today."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

from budget.ledger.amounts import NUSD_PER_USD, TOKENS_PER_MTOK
from gateway.expected_tokens import expected_tokens
from gateway.providers.lacks import OUTPUT_LIMITS
from gateway.types import HostedModel

PER_TOKEN = NUSD_PER_USD * TOKENS_PER_MTOK


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


@dataclass(frozen=True, slots=True, eq=False)
class PoolPrices:
    """The prices of a pool of models, laid out so that a request takes one look-up.

    Nobody knows beforehand how much of a prompt a provider will find in its cache, so no price of
    a cache counts.

    Attributes:
        starts: Prompt tokens of a request, in order, above which some model has other prices.
        rates: Of each model: up to the first of `starts`, then above each of them.
    """

    starts: tuple[int, ...]
    rates: tuple[tuple[Rates, ...], ...]

    @classmethod
    def of(cls, models: Sequence[HostedModel]) -> "PoolPrices":
        """Lay out the prices of `models`."""
        own = [round(expected_tokens(model.system_prompt or "")) for model in models]
        pairs = list(zip(models, own, strict=True))
        starts = sorted({t.above_prompt_tokens - n for m, n in pairs for t in m.price.tiers})
        first = starts[0] if starts else 0
        return cls(
            tuple(starts),
            tuple(
                tuple(_rates(model, n_own, tokens) for model, n_own in pairs)
                for tokens in (first, *(start + 1 for start in starts))
            ),
        )

    def cost_usd(
        self, prompt_tokens: int, completion_tokens: Sequence[float | None]
    ) -> tuple[float | None, ...]:
        """Price a request whose answer has so many tokens; None where nobody knows how many."""
        rates = self.rates[bisect_left(self.starts, prompt_tokens)]
        return tuple(
            [
                None if tokens is None else own + prompt_tokens * prompt + tokens * completion
                for tokens, (own, prompt, completion) in zip(completion_tokens, rates, strict=True)
            ]
        )


def asked_limit(body: Mapping[str, Any]) -> float:
    """Return the output limit that the caller set; infinity without one."""
    if body.keys().isdisjoint(OUTPUT_LIMITS):
        return inf
    limits = [body.get(name) for name in OUTPUT_LIMITS]
    return max([limit for limit in limits if type(limit) is int and limit > 0], default=inf)


def bounded(completion_tokens: Sequence[float | None], limit: float) -> tuple[float | None, ...]:
    """Expect no answer to have more tokens than `limit`."""
    return tuple([None if each is None else min(each, limit) for each in completion_tokens])


def _rates(model: HostedModel, own_tokens: int, prompt_tokens: int) -> Rates:
    price = model.price.up_to(prompt_tokens + own_tokens)[-1]
    prompt, completion = (
        price.input_nusd_per_mtok / PER_TOKEN,
        price.output_nusd_per_mtok / PER_TOKEN,
    )
    return Rates(own_tokens * prompt, prompt, completion)
