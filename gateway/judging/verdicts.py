"""Reads a judge's reply. It is strict: what is not surely the judge's own verdict is none."""

import json
from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar

MAX_REPLY_CHARS: Final = 65_536
MAX_MENTIONS: Final = 8
"""Of the code in one reply: a judge that repeats it more often repeats what it reads."""
END_OF_THOUGHT: Final = "</think>"

Preference = Literal["first", "second", "tie"]
Verdict = TypeVar("Verdict")

_PREFERENCES: Final[dict[str, Preference]] = {"A": "first", "B": "second", "tie": "tie"}


def score_in(reply: str, code: str) -> float | None:
    """Return the score, 0 to 1, that a reply gives; None where it gives none, or two."""
    return _only(reply, code, _score)


def preference_in(reply: str, code: str) -> Preference | None:
    """Return which answer a reply prefers; None where it does not say, or says both."""
    return _only(reply, code, _preference)


def agreed(forward: Preference | None, backward: Preference | None) -> Preference | None:
    """Join the verdicts of both orders: a preference that does not hold in both is a tie.

    Args:
        forward: On the first answer shown as A.
        backward: On the second answer shown as A.

    Returns:
        None where either is missing.
    """
    if forward is None or backward is None:
        return None
    swapped: dict[Preference, Preference] = {"first": "second", "second": "first", "tie": "tie"}
    return forward if forward == swapped[backward] else "tie"


def _only(
    reply: str, code: str, read: Callable[[dict[str, Any]], Verdict | None]
) -> Verdict | None:
    """Return what every verdict in the reply says; None where there is none or they differ.

    The code is what tells a verdict from JSON that the judge repeats out of the judged text.
    """
    thought, _, said = reply.rpartition(END_OF_THOUGHT)
    del thought
    if len(said) > MAX_REPLY_CHARS or not 0 < said.count(code) <= MAX_MENTIONS:
        return None
    found: set[Verdict | None] = set()
    at = said.find(code)
    while at >= 0:
        table = _object_around(said, at)
        if table is not None and table.get("id") == code:
            found.add(read(table))
        at = said.find(code, at + len(code))
    return found.pop() if len(found) == 1 else None


def _object_around(text: str, at: int) -> dict[str, Any] | None:
    """Decode the innermost JSON object that begins before `at`."""
    begin = text.rfind("{", 0, at)
    if begin < 0:
        return None
    try:
        table, _ = _DECODER.raw_decode(text, begin)
    except (ValueError, RecursionError):
        return None
    return table if isinstance(table, dict) else None


def _score(table: dict[str, Any]) -> float | None:
    score = table.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float):
        return None
    return float(score) if 0 <= score <= 1 else None


def _preference(table: dict[str, Any]) -> Preference | None:
    better = table.get("better")
    return _PREFERENCES.get(better) if isinstance(better, str) else None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name is there twice")
    return table


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
)
