"""What a call used: the provider's final count, or the gateway's own where there is none.

A count is final once the provider said that its answer is complete. Until then it may be a
placeholder, so what was forwarded is bounded here, and the higher figure is charged, marked as
estimated: a token is at least one byte, unless the model's own tokenizer is at hand. A report of
fewer tokens than any tokenizer makes of an answer is none; one that is merely odd is charged, and
its `doubt` is noted. No count is taken that cannot be true: a prompt has no more tokens than bytes,
an answer no more than the limit that was sent, and neither more than the model's context. And none
is taken beyond what was held for the call, so that no charge passes a cap.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from gateway.budgets.reservation import Reservation
from gateway.budgets.surplus import HOSTS_OWN_TOKENS
from gateway.budgets.worst_case import MAX_CHOICES, added_tokens, sent_output_limit
from gateway.evaluation_log.exchange import chars_in, written_in
from gateway.providers.fields import asks_for_extras
from gateway.providers.usage import whole_usage
from gateway.types import Doubt, HostedModel, Usage

LONGEST_CONTEXT_TOKENS: Final = 10_000_000
"""Of any model whose context is not known."""
LONGEST_ANSWER_TOKENS: Final = 1_000_000
"""Of any model whose context is not known, where it was sent no limit."""
MOST_CHARS_PER_TOKEN: Final = 128
"""The longest token of any published vocabulary, a run of blanks. Text as models write it has 3 to
6 on average:"""
UNUSUAL_CHARS_PER_TOKEN: Final = 24


class TokenCounter(Protocol):
    """Counts tokens without holding up the event loop; never too low."""

    async def bound(
        self, body: Mapping[str, Any], models: Sequence[HostedModel], team_id: str
    ) -> int:
        """Bound the prompt of a request body of a team, whichever of the models reads it."""
        ...

    async def bound_text(self, text: str, upstream_name: str) -> int:
        """Bound what the model of that name makes of a text."""
        ...

    async def estimate_prompt(self, body: Mapping[str, Any]) -> int:
        """Count about as many tokens as most models read; for callers, not to charge."""
        ...

    async def charged_of(
        self,
        claimed: int,
        body: Mapping[str, Any],
        model: HostedModel,
        team_id: str,
        *,
        added: int,
        held: int,
    ) -> int:
        """Return how many of the prompt tokens that a host claims are charged."""
        ...


@dataclass(frozen=True, slots=True)
class SentCall:
    """A call whose use is to be told.

    Attributes:
        body: The caller's request, as it was sent.
        held: What was held for it; None where nothing was.
        team_id: Of the caller.
        sent_s: When, on the monotonic clock.
    """

    model: HostedModel
    body: Mapping[str, Any]
    held: Reservation | None = None
    team_id: str = ""
    sent_s: float = 0.0

    @property
    def holds(self) -> Reservation | None:
        """What a charge must not be above; None where nothing was held."""
        return self.held if self.held is not None and self.held.is_held else None


def doubt_about(reported: Usage | None, n_chars: int) -> Doubt | None:
    """Say what is odd about what a provider reports of a complete answer of so much text."""
    if reported is None or not reported.prompt_tokens:
        return "missing"
    tokens = reported.completion_tokens
    if not tokens:
        return "missing" if n_chars else None
    if n_chars > MOST_CHARS_PER_TOKEN * tokens:
        return "too_few"
    return "few" if n_chars > UNUSUAL_CHARS_PER_TOKEN * tokens else None


async def final_usage(
    reported: Usage | None, call: SentCall, counter: TokenCounter
) -> Usage | None:
    """Return what a provider reported of a complete answer; None where that cannot be all."""
    if reported is None or not reported.prompt_tokens or not reported.completion_tokens:
        return None
    charged = await _charged(reported, call, counter)
    return charged if charged is reported else replace(charged, doubt="too_many")


async def counted_usage(
    reported: Usage | None, call: SentCall, counter: TokenCounter, output: str, unread: int = 0
) -> Usage:
    """Bound what the provider did not say, or not finally.

    Args:
        output: What the model put out, as far as it was forwarded and kept.
        unread: Tokens that it put out beside that, at most.
    """
    reported = reported or Usage(0, 0)
    prompt = reported.prompt_tokens
    if not prompt:
        prompt = await counter.bound(call.body, [call.model], call.team_id)
        prompt += added_tokens(call.model)
    put_out = await counter.bound_text(output, call.model.upstream_name) + unread
    if call.holds is not None:
        put_out = min(put_out, call.holds.output)
    completion = max(reported.completion_tokens, put_out)
    usage = replace(reported, prompt_tokens=prompt, completion_tokens=completion, is_estimated=True)
    return await _charged(usage, call, counter)


def chars_of(answer: Mapping[str, Any]) -> int:
    """Count the characters that a whole answer says."""
    return sum(map(chars_in, _messages(answer)))


def output_of(answer: Mapping[str, Any]) -> str:
    """Return all that a whole answer says: content, reasoning and arguments of tools."""
    return "".join(text for message in _messages(answer) for text in written_in(message))


def _messages(answer: Mapping[str, Any]) -> Iterator[Any]:
    choices = answer.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            yield choice.get("message")


async def _charged(usage: Usage, call: SentCall, counter: TokenCounter) -> Usage:
    """Hold the counts to what can be true and was held; what was cut is marked as estimated."""
    model, body = call.model, call.body
    held = call.holds
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
            prompt = await counter.charged_of(
                prompt, body, model, call.team_id, added=added, held=held_prompt
            )
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
