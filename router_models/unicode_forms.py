"""Unicode's NFKC in time linear in the text.

Sorting a run of combining marks takes time quadratic in its length: 64,000 of them took 13 s. No
language writes more than 30 in a row, so longer runs are divided by a character that shows nothing,
as in Unicode's stream-safe text format: https://www.unicode.org/reports/tr15/, section 13.
"""

import re
import unicodedata
from functools import cache
from itertools import pairwise
from typing import Final

LONGEST_RUN: Final = 30
"""Of combining marks: more than any language writes."""
_JOINER: Final = "\u034f"
"""The combining grapheme joiner: no mark is sorted past it."""
_BLOCK: Final = 0x1000
_BLOCKS_WITH_MARKS: Final = 0x20
_STRIDE: Final = 10
_SUSPECTS: Final = b"\x01" * (LONGEST_RUN // _STRIDE)
"""Of every tenth character, a run that is too long has three in a row."""
_FULL_RUN: Final = re.compile(rb"\x01{%d}(?=\x01)" % LONGEST_RUN)


def nfkc(text: str) -> str:
    """Normalise `text`; runs of combining marks longer than 30 are divided first."""
    return unicodedata.normalize("NFKC", divided(text))


def divided(text: str) -> str:
    """Divide the runs of combining marks that are longer than 30; other texts stay the same."""
    if text.isascii() or _SUSPECTS not in _are_marks(text[::_STRIDE]):
        return text
    ends = [run.end() for run in _FULL_RUN.finditer(_are_marks(text))]
    if not ends:
        return text
    return _JOINER.join(text[start:end] for start, end in pairwise((0, *ends, len(text))))


def _are_marks(text: str) -> bytes:
    marks = _marks_below(min(ord(max(text)) // _BLOCK, _BLOCKS_WITH_MARKS - 1) + 1)
    return bytes(map(marks.__contains__, text))


@cache
def _marks_below(blocks: int) -> frozenset[str]:
    """Find the marks of the first blocks: all of them at once would take 36 ms."""
    return frozenset[str]().union(*map(_marks_of, range(blocks)))


@cache
def _marks_of(block: int) -> frozenset[str]:
    """Find the characters that are, or become, marks with a place in the order of marks."""
    characters = map(chr, range(block * _BLOCK, (block + 1) * _BLOCK))
    return frozenset(filter(_is_mark, characters))


def _is_mark(c: str) -> bool:
    if unicodedata.combining(c):
        return True
    if not unicodedata.decomposition(c):
        return False
    return unicodedata.combining(unicodedata.normalize("NFKD", c)[0]) > 0
