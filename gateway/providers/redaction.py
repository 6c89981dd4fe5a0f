r"""Cuts the gateway's own keys out of what a provider says, however deep they are written in it.

A provider may quote what it was told: a JSON document within a string of another, and again within
that. There a key need not stand as it is, since `-` may be written `\u002d`, and `/` as `\/`.
"""

import re
from typing import Any, Final

MAX_DEPTH: Final = 16
"""Of an error object; what is nested deeper is not passed on."""
MAX_LEVELS: Final = 16
"""Of documents within strings; a text with more is not passed on."""
REDACTED: Final = "[redacted]"

_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)


def without_secrets(secrets: tuple[str, ...], value: Any, depth: int = MAX_DEPTH) -> Any:
    """Cut `secrets` out of every string of a decoded value."""
    if isinstance(value, str):
        return _cut_out(secrets, value)
    if isinstance(value, dict | list) and not depth:
        return None
    if isinstance(value, dict):
        return {
            _cut_out(secrets, name): without_secrets(secrets, part, depth - 1)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(secrets, part, depth - 1) for part in value]
    return value


def clean_errors(secrets: tuple[str, ...], answer: dict[str, Any]) -> bool:
    """Cut `secrets` out of the errors that an answer, or one of its choices, tells of.

    Returns:
        Whether any of them changed.
    """
    choices = answer.get("choices")
    parts = [answer, *(choices if isinstance(choices, list) else ())]
    telling = [part for part in parts if isinstance(part, dict) and part.get("error")]
    has_changed = False
    for part in telling:
        clean = without_secrets(secrets, part["error"])
        has_changed |= clean != part["error"]
        part["error"] = clean
    return has_changed


def _cut_out(secrets: tuple[str, ...], text: str) -> str:
    """Cut `secrets` out of a text, and of what it says once its escapes are read, again and again.

    A text that hides one is passed on without its escapes.
    """
    clean = plain = _replaced(secrets, text)
    hides = False
    for _ in range(MAX_LEVELS):
        read = _ESCAPE.sub(_unescaped, plain) if "\\" in plain else plain
        if read == plain:
            return _whole_characters(plain) if hides else clean
        plain = _replaced(secrets, read)
        hides = hides or plain != read
    return REDACTED


def _replaced(secrets: tuple[str, ...], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    return text


def _unescaped(escape: re.Match[str]) -> str:
    code, sign = escape.groups()
    return sign if code is None else chr(int(code, 16))


def _whole_characters(text: str) -> str:
    """Put halves of characters together; those that stay alone cannot be written."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
