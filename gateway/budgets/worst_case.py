"""The most a request can cost, known before it is sent, and the output limit that keeps it so."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from budget.ledger.amounts import TOKENS_PER_MTOK
from budget.ledger.settlements import Lease
from budget.ledger.types import Hold, Limit, Measure
from gateway.errors import InvalidRequest
from gateway.providers.lacks import OUTPUT_LIMITS
from gateway.settings.config import BudgetSettings
from gateway.types import HostedModel

MAX_CHOICES: Final = 128
MAX_TOKENS: Final = 2**31 - 1
_TAKES_NEW_NAME: Final = re.compile(r"(^|/)(gpt-|chatgpt-|o\d)", re.IGNORECASE)
"""OpenAI's reasoning models refuse `max_tokens`; several other hosts know only that."""


@dataclass(frozen=True, slots=True)
class WorstCase:
    """Bounds of one request over all the models that may answer it.

    Attributes:
        prompt_nusd: Upper bound of the prompt's cost, at the dearest of the models, tiers and ways
            to charge for a prompt that it can come under.
        prompt_tokens: Upper bound.
        completion_nusd_per_mtok: Of the dearest.
        choices: How many completions the caller asks for.
        least_completion_tokens: Of all choices together; `most_completion_tokens` too.
        is_capped: The caller set the output limit, so it is the least and the most.
    """

    prompt_nusd: int
    prompt_tokens: int
    completion_nusd_per_mtok: int
    choices: int
    least_completion_tokens: int
    most_completion_tokens: int
    is_capped: bool

    def within(self, tokens: int, least_per_choice: int) -> "WorstCase":
        """Return the same with an answer of at most `tokens`, whatever the caller asked for."""
        if self.most_completion_tokens <= tokens:
            return self
        least = self.choices * least_per_choice
        return replace(
            self,
            least_completion_tokens=min(least, self.least_completion_tokens),
            most_completion_tokens=max(tokens, least),
            is_capped=False,
        )

    def cost_nusd(self, completion_tokens: int) -> int:
        """Price the prompt and so many completion tokens."""
        cost = completion_tokens * self.completion_nusd_per_mtok
        return self.prompt_nusd - (-cost // TOKENS_PER_MTOK)

    def per_choice(self, completion_tokens: int) -> int | None:
        """Return the output limit to send for each choice; None where the caller set one."""
        return None if self.is_capped else completion_tokens // self.choices

    def afforded(self, cap: int, measure: Measure) -> int:
        """Count the completion tokens that fit under `cap`, prompt included; may be negative."""
        if measure == "tokens":
            return cap - self.prompt_tokens
        if measure == "output":
            return cap
        room = cap - self.prompt_nusd
        if room < 0 or self.completion_nusd_per_mtok == 0:
            return -1 if room < 0 else MAX_TOKENS
        return room * TOKENS_PER_MTOK // self.completion_nusd_per_mtok

    def hold(self, lease: Lease, limits: tuple[Limit, ...], most: int, lease_s: float) -> Hold:
        """Return what to hold for `lease`, for an answer of at most `most` tokens."""
        return Hold(
            request_id=lease.idempotency_key,
            limits=limits,
            fixed_nusd=self.prompt_nusd,
            fixed_tokens=self.prompt_tokens,
            completion_nusd_per_mtok=self.completion_nusd_per_mtok,
            min_completion_tokens=self.least_completion_tokens,
            max_completion_tokens=most,
            lease_s=lease_s,
        )


def worst_case(
    body: Mapping[str, Any],
    models: Sequence[HostedModel],
    prompt_tokens: int,
    settings: BudgetSettings,
) -> WorstCase:
    """Bound what `body` can cost on any of `models`.

    Args:
        prompt_tokens: Upper bound of the caller's own prompt; what the models add is added here.

    Raises:
        InvalidRequest: `n` or an output limit is no positive whole number.
    """
    prompt_tokens += max(added_tokens(model) for model in models)
    prices = [price for model in models for price in model.price.up_to(prompt_tokens)]
    input_price = max(max(p.input_nusd_per_mtok, *p.cache_nusd_per_mtok) for p in prices)
    choices = _positive(body, "n", MAX_CHOICES) or max(
        _default(model, "n") or 1 for model in models
    )
    limits = [_positive(body, name, MAX_TOKENS) or 0 for name in OUTPUT_LIMITS]
    is_capped = any(limits)
    if is_capped:
        least = most = max(limits)
    else:
        most = max(_longest_answer(model, settings) for model in models)
        least = min(settings.min_completion_tokens, most)
    return WorstCase(
        prompt_nusd=-(-prompt_tokens * input_price // TOKENS_PER_MTOK),
        prompt_tokens=prompt_tokens,
        completion_nusd_per_mtok=max(price.output_nusd_per_mtok for price in prices),
        choices=choices,
        least_completion_tokens=least * choices,
        most_completion_tokens=min(most * choices, MAX_TOKENS),
        is_capped=is_capped,
    )


def with_output_limit(
    body: Mapping[str, Any], model: HostedModel, completion_tokens: int | None
) -> Mapping[str, Any]:
    """Return the body to send to `model`: with the granted output limit, under the caller's name.

    Args:
        completion_tokens: For each choice; None leaves the body as it is.
    """
    if completion_tokens is None:
        return body
    limits = [completion_tokens, model.capabilities.max_output_tokens]
    limits += [_default(model, name) for name in OUTPUT_LIMITS]
    name = "max_completion_tokens" if _TAKES_NEW_NAME.search(model.upstream_name) else "max_tokens"
    for given in (body, model.request_defaults):
        named = [each for each in OUTPUT_LIMITS if given.get(each) is not None]
        if named:
            name = named[0]
            break
    others = {field: value for field, value in body.items() if field not in OUTPUT_LIMITS}
    return others | {name: min(limit for limit in limits if limit is not None)}


def sent_output_limit(body: Mapping[str, Any], model: HostedModel) -> int | None:
    """Return the output limit that `model` was sent for each choice; None where it was sent none.

    Args:
        body: As it was sent, or nearly: the model's defaults need not be in it.
    """
    for given in (body, model.request_defaults):
        limits = [given[name] for name in OUTPUT_LIMITS if given.get(name) is not None]
        if limits:
            are_numbers = all(type(limit) is int and limit > 0 for limit in limits)
            return max(limits) if are_numbers else None
    return None


def added_tokens(model: HostedModel) -> int:
    """Bound the tokens of what a hosted model adds to a prompt: no token is less than a byte."""
    added = len((model.system_prompt or "").encode())
    if model.request_defaults:
        added += len(orjson.dumps(dict(model.request_defaults), default=str))
    return added


def _longest_answer(model: HostedModel, settings: BudgetSettings) -> int:
    for name in OUTPUT_LIMITS:
        limit = _default(model, name)
        if limit is not None:
            return limit
    return model.capabilities.max_output_tokens or settings.default_max_completion_tokens


def _default(model: HostedModel, name: str) -> int | None:
    value = model.request_defaults.get(name)
    return value if type(value) is int and value > 0 else None


def _positive(body: Mapping[str, Any], name: str, most: int) -> int | None:
    """Read a number that the reservation rests on; a lenient provider could read it otherwise."""
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 < value <= most:
        raise InvalidRequest(f"`{name}` must be a whole number from 1 to {most}.", param=name)
    return value
