"""How deeply decoded JSON is nested: orjson reads 1,024 levels and writes 254."""

from typing import Any, Final

MAX_DEPTH: Final = 200
"""Of a body or an answer; less than orjson writes, since adapters add some."""


def is_too_deep(raw: bytes, value: Any) -> bool:
    """Whether `value`, decoded from `raw`, has more than `MAX_DEPTH` levels."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return False
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        values = (v.values() if isinstance(v, dict) else v for v in level)
        level = [v for some in values for v in some if isinstance(v, dict | list)]
        if not level:
            return False
    return True
