"""JSON whose integers may have any length: orjson makes floats of those beyond 64 bits.

Such a number needs twenty digits in a row, so one of each nineteen bytes of it is a digit, and each
fifth one: a small part of a body is looked at, which takes half a microsecond for a short one.
"""

import json
import re
from typing import Any, Final

import orjson

_FIRST_STRIDE: Final = 19
_STRIDE: Final = 5
_NO_DIGITS: Final = bytes(sign for sign in range(256) if chr(sign) not in "0123456789")
_DIGITS: Final = bytes(
    ord("0") if chr(sign) in "0123456789" else ord(" ") for sign in range(128)
).ljust(256)
_RUN: Final = b"0000"
_LONG: Final = re.compile(rb"[0-9]{20}")
_WINDOW: Final = 40


def exact(raw: bytes, value: Any) -> Any:
    """Return what orjson decoded from `raw`, with long integers as they were written."""
    if not has_long_integers(raw):
        return value
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return value


def has_long_integers(raw: bytes) -> bool:
    """Whether `raw` has twenty digits in a row, in a text or out of it."""
    if not raw[_FIRST_STRIDE - 1 :: _FIRST_STRIDE].translate(None, _NO_DIGITS):
        return False
    sampled = raw[_STRIDE - 1 :: _STRIDE].translate(_DIGITS)
    at = sampled.find(_RUN)
    while at >= 0:
        middle = (at + 1) * _STRIDE
        if _LONG.search(raw, max(middle - _WINDOW, 0), middle + _WINDOW):
            return True
        at = sampled.find(_RUN, at + 1)
    return False


def dumps(value: Any, option: int = 0) -> bytes:
    """Write JSON.

    Args:
        option: Of orjson; of these, only the indentation is heeded beside long integers.

    Raises:
        orjson.JSONEncodeError: It is nested too deeply, or no JSON.
    """
    try:
        return orjson.dumps(value, option=option)
    except orjson.JSONEncodeError:
        indent = 2 if option & orjson.OPT_INDENT_2 else None
        separators = None if indent else (",", ":")
        try:
            text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
            return text.encode()
        except (RecursionError, TypeError, ValueError):
            pass
        raise
