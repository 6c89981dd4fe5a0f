"""The one place where a provider's token counts are read, whatever its dialect, and made whole.

What a provider reports is charged to somebody, so nothing of it is taken on trust: a count is a
whole number within `MAX_TOKENS`, parts are never more than their whole, and counts of nothing at
all are no report. What is beyond a model's context is judged where the model is known.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.types import Usage

MAX_TOKENS: Final = 2**31 - 1
"""No call has more; what is above is a fault, and would overflow counters of 64 bits."""


def usage_of(reported: object, *, hides_reasoning: bool = False) -> Usage | None:
    """Read OpenAI's `usage` object; None if it is not one, or counts nothing.

    Beside OpenAI's own names it knows DeepSeek's for cached tokens. Some hosts leave reasoning out
    of `completion_tokens`, which their `total_tokens` shows.

    Args:
        hides_reasoning: What `total_tokens` has above the others is reasoning that is not named.
    """
    # dict, not Mapping: what was decoded from JSON is one, and the check is ten times quicker.
    if not isinstance(reported, dict):
        return None
    prompt = count_of(reported, "prompt_tokens")
    completion = count_of(reported, "completion_tokens")
    inputs = object_of(reported, "prompt_tokens_details")
    outputs = object_of(reported, "completion_tokens_details")
    reasoning = count_of(outputs, "reasoning_tokens") if outputs else 0
    total = count_of(reported, "total_tokens")
    if hides_reasoning and not reasoning:
        reasoning = max(total - prompt - completion, 0)
    if reasoning and total == prompt + completion + reasoning:
        completion += reasoning
    return whole_usage(
        prompt=prompt,
        completion=completion,
        cached=count_of(inputs, "cached_tokens") or count_of(reported, "prompt_cache_hit_tokens"),
        cache_write=count_of(inputs, "cache_write_tokens") if inputs else 0,
        reasoning=reasoning,
    )


def whole_usage(
    *,
    prompt: int,
    completion: int,
    cached: int = 0,
    cache_write: int = 0,
    cache_write_1h: int = 0,
    reasoning: int = 0,
) -> Usage | None:
    """Make a usage whose parts are not more than their whole; None if it counts nothing."""
    if not prompt and not completion:
        return None
    cached = min(cached, prompt)
    cache_write = min(cache_write, prompt - cached)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cache_write_tokens=cache_write,
        cache_write_1h_tokens=min(cache_write_1h, cache_write),
        reasoning_tokens=min(reasoning, completion),
    )


def count_of(parent: Mapping[str, Any], name: str) -> int:
    """Read a count; 0 where it is absent or no whole number from 0 on."""
    value = parent.get(name)
    return min(value, MAX_TOKENS) if type(value) is int and value > 0 else 0


def object_of(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Read an object; an empty one where there is none."""
    value = parent.get(name)
    return value if isinstance(value, dict) else {}
