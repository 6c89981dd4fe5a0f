"""Reads token counts as OpenAI-compatible hosts report them."""

from collections.abc import Mapping
from typing import Any

from gateway.types import Usage


def usage_of(reported: object) -> Usage | None:
    """Read a `usage` object; None if it is not one, or counts nothing.

    Beside OpenAI's own names it knows DeepSeek's for cached tokens.
    """
    # dict, not Mapping: what was decoded from JSON is one, and the check is ten times quicker.
    if not isinstance(reported, dict):
        return None
    prompt = _count(reported, "prompt_tokens")
    completion = _count(reported, "completion_tokens")
    if prompt is None and completion is None:
        return None
    inputs = _object(reported, "prompt_tokens_details")
    outputs = _object(reported, "completion_tokens_details")
    cached = _count(inputs, "cached_tokens") or _count(reported, "prompt_cache_hit_tokens")
    return Usage(
        prompt_tokens=prompt or 0,
        completion_tokens=completion or 0,
        cached_tokens=cached or 0,
        cache_write_tokens=_count(inputs, "cache_write_tokens") or 0,
        reasoning_tokens=_count(outputs, "reasoning_tokens") or 0,
    )


def _object(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parent.get(name)
    return value if isinstance(value, dict) else {}


def _count(parent: Mapping[str, Any], name: str) -> int | None:
    value = parent.get(name)
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if is_count else None
