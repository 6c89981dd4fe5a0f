"""What a call used: the provider's final count, or the gateway's own where there is none.

A count is final once the provider said that its answer is complete. Until then it may be a
placeholder, so what was forwarded is counted here, and the higher figure is charged, marked as
estimated. No count is taken that cannot be true: a prompt has no more tokens than bytes, an answer
no more than the limit that was sent, and neither more than the model's context. And none is taken
beyond what was held for the call, so that no charge passes a cap.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final, Protocol

from gateway.budgets.reservation import Reservation
from gateway.budgets.surplus import HOSTS_OWN_TOKENS
from gateway.budgets.worst_case import MAX_CHOICES, added_tokens, sent_output_limit
from gateway.evaluation_log.exchange import written_in
from gateway.providers.fields import asks_for_extras
from gateway.providers.usage import whole_usage
from gateway.types import HostedModel, Usage

LONGEST_CONTEXT_TOKENS: Final = 10_000_000
"""Of any model whose context is not known."""
LONGEST_ANSWER_TOKENS: Final = 1_000_000
"""Of any model whose context is not known, where it was sent no limit."""


class TokenCounter(Protocol):
    """Counts tokens without holding up the event loop; never too low."""

    async def count_prompt(self, body: Mapping[str, Any]) -> int:
        """Count the prompt of a request body."""
        ...

    async def estimate_prompt(self, body: Mapping[str, Any]) -> int:
        """Count about as many tokens as most models read; for callers, not to charge."""
        ...

    async def count_text(self, text: str) -> int:
        """Count a text."""
        ...

    async def charged_of(
        self, claimed: int, body: Mapping[str, Any], model: HostedModel, added: int, held: int
    ) -> int:
        """Return how many of the prompt tokens that a host claims are charged."""
        ...


@dataclass(frozen=True, slots=True)
class SentCall:
    """A call whose use is to be told.

    Attributes:
        body: The caller's request, as it was sent.
        held: What was held for it; None where nothing was.
    """

    model: HostedModel
    body: Mapping[str, Any]
    held: Reservation | None = None


async def final_usage(
    reported: Usage | None, call: SentCall, counter: TokenCounter
) -> Usage | None:
    """Return what a provider reported of a complete answer; None where that cannot be all."""
    if reported is None or not reported.prompt_tokens or not reported.completion_tokens:
        return None
    return await _charged(reported, call, counter)


async def counted_usage(
    reported: Usage | None, call: SentCall, counter: TokenCounter, output: str, scale: float = 1.0
) -> Usage:
    """Count what the provider did not, or not finally.

    Args:
        output: What the model put out, as far as it was forwarded or kept.
        scale: How many times as much was forwarded as is in `output`.
    """
    reported = reported or Usage(0, 0)
    prompt = reported.prompt_tokens
    prompt = prompt or await counter.count_prompt(call.body) + added_tokens(call.model)
    counted = ceil(await counter.count_text(output) * scale) if output else 0
    completion = max(reported.completion_tokens, counted)
    usage = replace(reported, prompt_tokens=prompt, completion_tokens=completion, is_estimated=True)
    return await _charged(usage, call, counter)


def output_of(answer: Mapping[str, Any]) -> str:
    """Return all that a whole answer says: content, reasoning and arguments of tools."""
    choices = answer.get("choices")
    return "".join(
        text
        for choice in (choices if isinstance(choices, list) else ())
        if isinstance(choice, dict)
        for text in written_in(choice.get("message"))
    )


async def _charged(usage: Usage, call: SentCall, counter: TokenCounter) -> Usage:
    """Hold the counts to what can be true and was held; what was cut is marked as estimated."""
    model, body = call.model, call.body
    held = call.held if call.held is not None and call.held.is_held else None
    context = model.capabilities.context_tokens
    prompt = min(usage.prompt_tokens, context or LONGEST_CONTEXT_TOKENS)
    limit = context or LONGEST_ANSWER_TOKENS
    sent = min(sent_output_limit(body, model) or limit, limit)
    held_prompt = 0 if held is None else held.tokens - held.output
    # A search that an operator allows lengthens the prompt, other thinking the answer.
    if prompt > (held_prompt or HOSTS_OWN_TOKENS) or usage.completion_tokens > sent:
        if asks_for_extras({**model.request_defaults, **body}):
            held = None
        else:
            added, limit = added_tokens(model), sent
            prompt = await counter.charged_of(prompt, body, model, added, held_prompt)
    # Each of several choices has limit and context to itself.
    completion = min(usage.completion_tokens, limit * _choices(body, model))
    if held is not None:
        completion = min(completion, held.output)
    if (prompt, completion) == (usage.prompt_tokens, usage.completion_tokens):
        return usage
    whole = whole_usage(
        prompt=prompt,
        completion=completion,
        cached=usage.cached_tokens,
        cache_write=usage.cache_write_tokens,
        cache_write_1h=usage.cache_write_1h_tokens,
        reasoning=usage.reasoning_tokens,
    )
    return replace(whole or usage, is_estimated=True)


def _choices(body: Mapping[str, Any], model: HostedModel) -> int:
    asked = body.get("n") or model.request_defaults.get("n")
    return min(asked, MAX_CHOICES) if type(asked) is int and asked > 0 else 1
