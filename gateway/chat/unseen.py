"""What a model may have thought that nobody saw, where its provider did not say how much.

Thoughts are billed as output. Who leaves a stream, or sees it break, before the provider's last
count arrives, would have them for nothing. How many there were nobody knows, but a model writes
only so fast, and none longer than its output limit.
"""

import re
from collections.abc import Mapping
from math import ceil
from typing import Any, Final

from gateway.chat.usage import SentCall
from gateway.providers.anthropic_models import traits_of
from gateway.types import HostedModel

FASTEST_TOKENS_PER_S: Final = 2_000
"""Twice what the fastest host that hides thoughts is known for."""

_ALWAYS: Final = re.compile(
    r"(^|/)(o\d(?!\d)|gpt-5(?!\.|.*chat)|gemini-(2\.5|[3-9]).*pro|grok-[4-9](?!.*non-reasoning)"
    r"|sonar-deep-research)",
    re.IGNORECASE,
)
_UNLESS_TOLD: Final = re.compile(
    r"(^|/)(gpt-(5\.|[6-9])(?!.*chat)|gemini-(2\.5|[3-9])|grok-3-mini)", re.IGNORECASE
)
"""Upstream names of models that think and do not show it, as their makers document it. Others, such
as DeepSeek's and Qwen's, write their thoughts into the stream, unless they are asked not to."""
_CLAUDE: Final = re.compile(r"claude", re.IGNORECASE)
_ASKS_TO_THINK: Final = ("thinking", "reasoning_effort", "reasoning", "output_config")


def unseen_tokens(call: SentCall, now_s: float) -> int:
    """Bound the tokens of thoughts that were not forwarded, until `now_s`."""
    if not may_hide_thoughts(call.model, call.body):
        return 0
    return ceil(FASTEST_TOKENS_PER_S * max(now_s - call.sent_s, 0.0))


def may_hide_thoughts(model: HostedModel, body: Mapping[str, Any]) -> bool:
    """Whether `model` may think about `body`, as it is sent, without its caller seeing that."""
    asked = {**model.request_defaults, **body}
    name = model.upstream_name
    if _hides(asked):
        return True
    if _CLAUDE.search(name):
        may_think = traits_of(name).thinks_always
        return may_think or (_is_told(asked) and not _is_told_not_to(asked))
    if _ALWAYS.search(name):
        return True
    may_think = model.capabilities.reasoning is not None or _UNLESS_TOLD.search(name) is not None
    return may_think and not _is_told_not_to(asked)


def _is_told(body: Mapping[str, Any]) -> bool:
    return any(body.get(name) for name in _ASKS_TO_THINK)


def _is_told_not_to(body: Mapping[str, Any]) -> bool:
    reasoning, thinking = body.get("reasoning"), body.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") == "disabled":
        return True
    effort = body.get("reasoning_effort")
    if isinstance(reasoning, dict):
        if reasoning.get("enabled") is False:
            return True
        effort = effort or reasoning.get("effort")
    return effort == "none"


def _hides(body: Mapping[str, Any]) -> bool:
    """Whether a host is asked to keep thoughts to itself, as OpenRouter and Groq name it."""
    reasoning = body.get("reasoning")
    is_excluded = isinstance(reasoning, dict) and bool(reasoning.get("exclude"))
    is_left_out = body.get("include_reasoning") is False
    return is_excluded or is_left_out or body.get("reasoning_format") == "hidden"
