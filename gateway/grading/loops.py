"""Finds answers that repeat themselves, in time linear in their length."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

TAIL_CHARS: Final = 4_096
"""Of an answer that are searched for a loop: a model that is caught in one does not leave it."""
MIN_REPEATED_CHARS: Final = 240
MIN_REPETITIONS: Final = 6
PROBE_CHARS: Final = 32
MAX_PERIODS: Final = 16
"""Distances that are tried: a loop whose unit has many alike parts may be missed."""
MIN_LINES: Final = 16
MIN_LINE_CHARS: Final = 20
MAX_LINES: Final = 2_000
REPEATED_SHARE: Final = 0.75


def is_loop(text: str) -> bool:
    """Whether a text ends in the same words over and over, or consists of the same few lines."""
    return _ends_in_repetition(text[-TAIL_CHARS:].rstrip()) or _repeats_lines(text)


def _ends_in_repetition(text: str) -> bool:
    """Whether the end of `text` has a period that comes at least six times."""
    for period in islice(_periods(text), MAX_PERIODS):
        repeated = max(MIN_REPEATED_CHARS, MIN_REPETITIONS * period)
        if repeated > len(text):
            return False
        if text[-repeated:-period] == text[period - repeated :]:
            return _says_something(text[-period:])
    return False


def _periods(text: str) -> Iterator[int]:
    """Find the distances, shortest first, at which the last characters were written before."""
    probe, at = text[-PROBE_CHARS:], len(text) - PROBE_CHARS
    while (at := text.rfind(probe, 0, at + PROBE_CHARS - 1)) >= 0:
        yield len(text) - PROBE_CHARS - at


def _says_something(unit: str) -> bool:
    """Whether what comes again and again is words, not a rule of dashes or a run of zeros."""
    return len({char for char in unit.casefold() if char.isalpha()}) > 1


def _repeats_lines(text: str) -> bool:
    if text.count("\n") < MIN_LINES - 1:
        return False
    lines = [line.strip() for line in text.split("\n", MAX_LINES)[:MAX_LINES]]
    long = [line for line in lines if len(line) >= MIN_LINE_CHARS]
    different = set(long)
    if len(long) < MIN_LINES or len(different) > (1 - REPEATED_SHARE) * len(long):
        return False
    return all(map(_says_something, different))
