"""What a refusal is about that says so by no field of its error, or by its words alone.

Read at the beginning of a message only: elsewhere a caller may have been quoted. A caller can get
these words quoted at the beginning too. So they lead to another model for this caller, and what is
learned from them holds for its team alone.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from gateway.errors import ProviderUnsupported

_TOO_LONG_NAMES: Final = frozenset(
    {"context_length_exceeded", "exceed_context_size_error", "request_too_large"}
)
ABOUT_THE_MODEL: Final = _TOO_LONG_NAMES | {
    "unknown_parameter",
    "unsupported_parameter",
    "unsupported_value",
}
"""Codes and types of OpenAI, Azure, Groq, llama.cpp and Anthropic."""
_TOO_LONG: Final = re.compile(
    r"prompt is too long: \d+ tokens > \d+ maximum\Z"
    r"|input length and `max_tokens` exceed context limit: \d+ \+ \d+ > \d+"
    r"|This (model|endpoint)'s maximum context length is \d+ tokens"
    r"|The input token count \(?\d+\)? exceeds the maximum number of tokens allowed"
    r"|Input validation error: `inputs` tokens \+ `max_new_tokens` must be <= \d+"
    r"|Prompt contains \d+ tokens"
    r"|Input is too long for requested model"
)
"""How Anthropic, vLLM, DeepSeek, OpenRouter, Google, TGI, Mistral and Bedrock begin it."""
_FIELD: Final = re.compile(
    r"(?P<unknown>[\w.]{1,64}): Extra inputs are not permitted\Z"
    r"|`(?P<deprecated>temperature|top_p|top_k)` is deprecated for this model"
    r"|`temperature` and `(?P<second>top_p)` cannot both be specified for this model"
    r'|Invalid JSON payload received\. Unknown name "(?P<google>\w{1,64})": Cannot find field'
    r"|Malformed input request: #: extraneous key \[(?P<bedrock>\w{1,64})\] is not permitted"
)
"""How Anthropic, Google and Bedrock name a field that may not be there."""
_THOUGHTS: Final = re.compile(
    r"messages\.\d+(\.content\.\d+)?(\.thinking\.signature)?: "
    r"(Invalid `signature` in `thinking` block"
    r"|`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified"
    r"|When thinking is disabled, an `assistant` message in the final position cannot contain"
    r"|The final block in an assistant message cannot be `thinking`)"
)
"""How Anthropic says that earlier thoughts may not come back as they do: other models', other
conversations', or what a gateway's own instruction before them has made so.
https://platform.claude.com/docs/en/build-with-claude/preserved-thinking"""
_OTHERS: Final = re.compile(
    r"max_tokens: \d+ > \d+, which is the maximum allowed number of output tokens"
    r"|This model does not support assistant message prefill"
    r"|Prefilling assistant messages is not supported for this model"
    r"|max_tokens is too large: \d+\. This model supports at most \d+"
)


def is_about_the_model(said: Mapping[str, Any], status: int) -> bool:
    """Whether another model may take what this one refused.

    Args:
        said: The error object of the refusal.
    """
    message = _message(said)
    found = (words.match(message) for words in (_TOO_LONG, _FIELD, _THOUGHTS, _OTHERS))
    return status == 413 or bool(_names(said) & ABOUT_THE_MODEL) or any(found)


def is_about_length(refusal: ProviderUnsupported) -> bool:
    """Whether the prompt was too long."""
    said = refusal.body or {}
    return (
        refusal.status == 413
        or bool(_names(said) & _TOO_LONG_NAMES)
        or _TOO_LONG.match(_message(said)) is not None
    )


def is_about_thoughts(refusal: ProviderUnsupported) -> bool:
    """Whether thoughts of earlier turns may not come back."""
    return _THOUGHTS.match(_message(refusal.body or {})) is not None


def refused_field(refusal: ProviderUnsupported) -> str | None:
    """Name the field of the request that was refused; None where that is not said."""
    if refusal.asked is not None:
        return refusal.asked
    found = _FIELD.match(_message(refusal.body or {}))
    return None if found is None else next(filter(None, found.groups()))


def _names(said: Mapping[str, Any]) -> set[str]:
    return {str(said.get("code")), str(said.get("type"))}


def _message(said: Mapping[str, Any]) -> str:
    return str(said.get("message", ""))
