"""Finds answers that repeat themselves, in time linear in their length."""

from typing import Final

TAIL_CHARS: Final = 4_096
"""Of an answer that are searched for a loop: a model that is caught in one does not leave it."""
MIN_REPEATED_CHARS: Final = 240
MIN_REPETITIONS: Final = 6
MIN_LINES: Final = 16
MIN_LINE_CHARS: Final = 20
MAX_LINES: Final = 2_000
REPEATED_SHARE: Final = 0.75


def is_loop(text: str) -> bool:
    """Whether a text ends in the same words over and over, or consists of the same few lines."""
    return _ends_in_repetition(text[-TAIL_CHARS:].rstrip()) or _repeats_lines(text)


def _ends_in_repetition(text: str) -> bool:
    """Whether the end of `text` has a period that comes at least six times.

    The text is read from its end: of each of its ends, Knuth, Morris and Pratt's prefix function
    tells the shortest period.
    """
    read = text[::-1]
    border = [0] * len(read)
    for at in range(1, len(read)):
        length = border[at - 1]
        while length and read[at] != read[length]:
            length = border[length - 1]
        border[at] = length + (read[at] == read[length])
        period = at + 1 - border[at]
        if at + 1 >= MIN_REPEATED_CHARS and period * MIN_REPETITIONS <= at + 1:
            return _says_something(read[:period])
    return False


def _says_something(unit: str) -> bool:
    """Whether what comes again and again is words, not a rule of dashes or a run of zeros."""
    return len({char for char in unit.casefold() if char.isalpha()}) > 1


def _repeats_lines(text: str) -> bool:
    lines = [line.strip() for line in text.split("\n", MAX_LINES)[:MAX_LINES]]
    long = [line for line in lines if len(line) >= MIN_LINE_CHARS and _says_something(line)]
    return len(long) >= MIN_LINES and len(set(long)) <= (1 - REPEATED_SHARE) * len(long)
