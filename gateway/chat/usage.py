"""What a call used: the provider's final count, or the gateway's own where there is none.

A count is final once the provider said that its answer is complete. Until then it may be a
placeholder, so what was forwarded is counted here, and the higher figure is charged, marked as
estimated. No count is taken that cannot be true: a prompt has no more tokens than bytes, an answer
no more than the limit that was sent, and neither more than the model's context.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any, Final, Protocol

from gateway.budgets.prompt_tokens import possible_prompt_tokens
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


def final_usage(
    reported: Usage | None, model: HostedModel, body: Mapping[str, Any]
) -> Usage | None:
    """Return what a provider reported of a complete answer; None where that cannot be all.

    Args:
        body: The caller's request, as it was sent.
    """
    if reported is None or not reported.prompt_tokens or not reported.completion_tokens:
        return None
    return _possible(reported, model, body)


async def counted_usage(
    reported: Usage | None,
    model: HostedModel,
    counter: TokenCounter,
    body: Mapping[str, Any],
    output: str,
    *,
    scale: float = 1.0,
) -> Usage:
    """Count what the provider did not, or not finally.

    Args:
        body: The caller's request, as it was sent.
        output: What the model put out, as far as it was forwarded or kept.
        scale: How many times as much was forwarded as is in `output`.
    """
    reported = reported or Usage(0, 0)
    prompt = reported.prompt_tokens or await counter.count_prompt(body) + added_tokens(model)
    counted = ceil(await counter.count_text(output) * scale) if output else 0
    completion = max(reported.completion_tokens, counted)
    usage = replace(reported, prompt_tokens=prompt, completion_tokens=completion, is_estimated=True)
    return _possible(usage, model, body)


def output_of(answer: Mapping[str, Any]) -> str:
    """Return all that a whole answer says: content, reasoning and arguments of tools."""
    choices = answer.get("choices")
    return "".join(
        text
        for choice in (choices if isinstance(choices, list) else ())
        if isinstance(choice, dict)
        for text in written_in(choice.get("message"))
    )


def _possible(usage: Usage, model: HostedModel, body: Mapping[str, Any]) -> Usage:
    """Hold the counts to what can be true; what was cut is marked as estimated."""
    context = model.capabilities.context_tokens
    prompt = min(usage.prompt_tokens, context or LONGEST_CONTEXT_TOKENS)
    limit = context or LONGEST_ANSWER_TOKENS
    may_be_longer = False
    plain = possible_prompt_tokens(body, prompt, added_tokens(model))
    sent = min(sent_output_limit(body, model) or limit, limit)
    if plain < prompt or usage.completion_tokens > sent:
        # A search that an operator allows lengthens the prompt, other thinking the answer.
        may_be_longer = asks_for_extras({**model.request_defaults, **body})
    if not may_be_longer:
        prompt, limit = plain, sent
    # Each of several choices has limit and context to itself.
    completion = min(usage.completion_tokens, limit * _choices(body, model))
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
