r"""Finds numbers in text: ``1,234``, ``$3.50``, ``3/4``, ``\frac{3}{4}``, ``1e6``, ``50%``."""

import math
import re
from dataclasses import dataclass

from router_models.unicode_forms import nfkc

_MINUS_SIGN = "\u2212"
_NUMBER = re.compile(
    r"(?:(?<![\w.)])[-+]\s?)?"
    r"(?:\\d?frac\{(?P<top>[-+]?\d{1,300})\}\{(?P<bottom>\d{1,300})\}"
    r"|(?<![\w.])[$€£]?(?P<whole>\d{1,3}(?:,\d{3}){1,20}(?!\d)|\d{1,300})?(?P<decimals>\.\d{1,300})?"
    r"(?P<exponent>[eE][-+]?\d{1,3}(?!\w))?(?:\s?/\s?(?P<divisor>\d{1,300}(?:\.\d{1,30})?))?)"
    r"(?P<percent>\s?\\?%)?"
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written: 50 % has the value 50; one too large for a float is infinite."""

    value: float
    is_percent: bool = False

    def equals(self, other: "Number", tolerance: float) -> bool:
        """Whether both mean the same, `other` being the reference."""
        readings = [(self.value, other.value)]
        if self.is_percent and not other.is_percent:
            readings.append((self.value / 100, other.value))
        if other.is_percent and not self.is_percent:
            readings.append((self.value, other.value / 100))
        return any(abs(a - b) <= tolerance * max(1.0, abs(b)) for a, b in readings)


def plain(text: str) -> str:
    """Write digits, signs and letters in their usual forms."""
    return nfkc(text).replace(_MINUS_SIGN, "-")


def find_numbers(text: str) -> list[Number]:
    """Return the numbers of a text that `plain` has made plain."""
    found = (_read_number(match) for match in _NUMBER.finditer(text))
    return [number for number in found if number is not None]


def parse_number(text: str) -> Number | None:
    """Read a text that is a number and nothing else."""
    match = _NUMBER.fullmatch(plain(text).strip())
    return None if match is None else _read_number(match)


def _read_number(match: "re.Match[str]") -> Number | None:
    if match["top"] is not None:
        top, bottom = match["top"], match["bottom"]
    else:
        if match["whole"] is None and match["decimals"] is None:
            return None
        digits = (match["whole"] or "0").replace(",", "") + (match["decimals"] or "")
        top, bottom = digits + (match["exponent"] or ""), match["divisor"] or "1"
    if float(bottom) == 0:
        return None
    value = float(top) / float(bottom)
    sign = -1.0 if match[0].startswith("-") else 1.0
    return None if math.isnan(value) else Number(sign * value, match["percent"] is not None)
