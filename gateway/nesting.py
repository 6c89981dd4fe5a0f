"""How deeply decoded JSON is nested: orjson reads 1,024 levels and writes 254."""

from typing import Any, Final

MAX_DEPTH: Final = 200
"""Of a body or an answer; less than orjson writes, since adapters add some."""

MAX_INDENTATION_BYTES: Final = 4 * 1024 * 1024
"""Of a body, where its prompt is counted as a chat template may write it: 250,000 values, the most
that a body has, at 8 levels each."""


def is_too_deep(raw: bytes, value: Any) -> bool:
    """Whether `value`, decoded from `raw`, has more than `MAX_DEPTH` levels."""
    # Each level is opened and closed, so what is short need not be counted.
    if len(raw) <= 2 * MAX_DEPTH or raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return False
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        values = (v.values() if isinstance(v, dict) else v for v in level)
        level = [v for some in values for v in some if isinstance(v, dict | list)]
        if not level:
            return False
    return True


def indentation_of(raw: bytes, value: Any) -> int:
    """Bound the bytes by which `value`, decoded from `raw`, grows where it is written indented.

    Each value of a list of 190 levels is written behind 380 blanks.
    """
    containers = raw.count(b"[") + raw.count(b"{")
    most = 2 * min(containers, MAX_DEPTH) * (raw.count(b",") + 2 * containers)
    if most <= MAX_INDENTATION_BYTES:
        return most
    n_bytes, depth, level = 0, 1, [value]
    while level:
        n_bytes += 2 * depth * sum(map(len, level))
        values = (v.values() if isinstance(v, dict) else v for v in level)
        level = [v for some in values for v in some if isinstance(v, dict | list)]
        depth += 1
    return n_bytes
