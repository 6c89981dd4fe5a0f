"""About how many tokens a prompt has: what it is expected to cost rests on that.

Not the bound that budgets reserve by (`gateway.budgets.prompt_tokens`), which is never too low.
OpenAI's tokenizers make a token of 3.6 to 4.3 bytes of English, code and JSON. They differ over
other scripts (Chinese 2.6 and 4.1 bytes, Hindi 2.5 and 9.4), where 4 lies between them.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

BYTES_PER_TOKEN: Final = 4
MESSAGE_TOKENS: Final = 4
"""Marks around a message, beside its role."""
IMAGE_TOKENS: Final = 1_000
"""Of an image of a million pixels models charge 765 to 1,600."""
_STRUCTURES: Final = ("tools", "functions")


def expected_prompt_tokens(body: Mapping[str, Any]) -> int:
    """Estimate the prompt tokens of a chat request; audio and files count as nothing.

    Args:
        body: Its `messages` are a list of objects.
    """
    messages = body["messages"]
    n_bytes, images = 0, 0
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            n_bytes += _size(content)
        elif isinstance(content, list):
            for part in content:
                text, is_image = _read_part(part)
                n_bytes += _size(text)
                images += is_image
        n_bytes += _written(message.get("tool_calls"))
    n_bytes += sum(_written(body.get(name)) for name in _STRUCTURES)
    tokens = n_bytes // BYTES_PER_TOKEN
    return tokens + MESSAGE_TOKENS * len(messages) + IMAGE_TOKENS * images


def expected_tokens(text: str) -> int:
    """Estimate the tokens of a text."""
    return _size(text) // BYTES_PER_TOKEN


def _read_part(part: object) -> tuple[str, bool]:
    """Return a part's text, and whether it is an image."""
    if not isinstance(part, dict):
        return "", False
    text, kind = part.get("text"), part.get("type")
    return text if isinstance(text, str) else "", isinstance(kind, str) and "image" in kind


def _written(structure: object) -> int:
    """Return the bytes of a structure as JSON, which is about how models read it."""
    return len(orjson.dumps(structure)) if structure else 0


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
