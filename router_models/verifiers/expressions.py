r"""Evaluates a mathematical expression, in LaTeX or plain notation, at a few fixed points.

A variable's values follow from its name alone, so the same text has the same values everywhere.
Reading takes time linear in the text: nothing is simplified, and numbers are floating-point.
"""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router_models.unicode_forms import nfkc

Values = NDArray[np.complex128]
"""Of an expression at each point."""

MAX_DEPTH: Final = 20
MAX_FACTORIAL: Final = 170
N_POINTS: Final = 3
OPENING, CLOSING = ("(", "[", "{", r"\{"), (")", "]", "}", r"\}")

_IGNORED = re.compile(
    r"\\(?:left|right|big|Big|displaystyle|limits|[,;:! $%])|\^\s*\{?\\circ\}?|[$%~\s\u00b0]"
    r"|\\(?:text|mathrm|mbox|textbf)\s*\{[^{}]*\}"
)
_SUPERSCRIPT = re.compile("[\u207b\u00b9\u00b2\u00b3\u2070\u2074-\u2079]+")
_UNIT = re.compile(r"(?<=\d)\s+[A-Za-z]{3,}[A-Za-z ]*\.?$")
_SHORT_FRACTION = re.compile(r"(\\[dt]?frac)\s*(\d)\s*(\d)")
_NAMES = "sqrt|arcsin|arccos|arctan|sin|cos|tan|exp|log|ln|pi|infty|infinity"
_TOKEN = re.compile(
    rf"\d+(?:,\d{{3}})+(?!\d)(?:\.\d+)?|\d*\.\d+|\d+|\\[{{}}]|\\[A-Za-z]+|(?:{_NAMES})(?![a-z])"
    r"|\*\*|<=|>=|\S"
)
_SAME: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys((r"\cdot", r"\times", "\u00b7", "\u00d7"), "*"),
        **dict.fromkeys((r"\div", "÷"), "/"),
        **dict.fromkeys((r"\dfrac", r"\tfrac"), r"\frac"),
        **dict.fromkeys(("sqrt", "√"), r"\sqrt"),
        **dict.fromkeys(("pi", "π"), r"\pi"),
        **dict.fromkeys(("infty", "infinity", "∞"), r"\infty"),
        **dict.fromkeys((r"\le", r"\leq", "≤"), "<="),
        **dict.fromkeys((r"\ge", r"\geq", "≥"), ">="),
        **dict.fromkeys((r"\lvert", r"\rvert", r"\mid"), "|"),
        **dict.fromkeys((r"\log", r"\ln", "ln"), "log"),
        **{f"\\{name}": name for name in ("sin", "cos", "tan", "exp")},
        **{f"\\{name}": name for name in ("arcsin", "arccos", "arctan")},
        "**": "^",
        r"\in": "=",
        "\u2044": "/",
        "\u2212": "-",
        "\u222a": r"\cup",
        r"\lt": "<",
        r"\gt": ">",
        r"\lbrace": r"\{",
        r"\rbrace": r"\}",
    }
)
_FUNCTIONS: Mapping[str, Callable[[Values], Values]] = MappingProxyType(
    {
        "sin": np.sin,
        "cos": np.cos,
        "tan": np.tan,
        "exp": np.exp,
        "log": np.log,
        "arcsin": np.arcsin,
        "arccos": np.arccos,
        "arctan": np.arctan,
    }
)
_CONSTANTS: Mapping[str, complex] = MappingProxyType({r"\pi": math.pi, "e": math.e, "i": 1j})


class NotMaths(ValueError):
    """The text is no expression that is understood."""


class BeyondLimits(NotMaths):
    """The text may be an expression, but it is too long, too deep or too large to tell."""


def tokens_of(text: str) -> list[str]:
    """Split a text into signs, each in one spelling; units and layout are left out."""
    raised = _SUPERSCRIPT.sub(lambda found: f"^{{{found[0]}}}", text.strip())
    plain = nfkc(raised)
    plain = _IGNORED.sub(" ", _UNIT.sub("", plain)).strip().removesuffix(".")
    plain = _SHORT_FRACTION.sub(r"\1{\2}{\3}", plain)
    return [_SAME.get(one, one) for one in _TOKEN.findall(plain)]


def is_variable(sign: str) -> bool:
    """Whether a sign stands for any value."""
    is_word = sign.removeprefix("\\").isalpha() and sign not in (r"\frac", r"\sqrt", r"\cup")
    return is_word and sign not in _FUNCTIONS and sign not in _CONSTANTS


def evaluate(signs: Sequence[str]) -> Values:
    """Return an expression's values; not finite where it has none.

    Raises:
        NotMaths: It is no expression.
        BeyondLimits: It is nested too deep, or a value on the way is too large for a float.
    """
    try:
        with np.errstate(all="ignore", over="raise"):
            return _Reader(signs).read()
    except FloatingPointError as error:
        raise BeyondLimits("a value is too large") from error


class _Reader:
    """Evaluates an expression by recursive descent."""

    def __init__(self, signs: Sequence[str]) -> None:
        self.signs = signs
        self.at = 0
        self.depth = 0
        self.is_within_bars = False

    def read(self) -> Values:
        """Evaluate all of it."""
        values = self._sum()
        if self.at < len(self.signs):
            raise NotMaths(f"{self.signs[self.at]!r} is out of place")
        return values

    @property
    def _next(self) -> str:
        return self.signs[self.at] if self.at < len(self.signs) else ""

    def _take(self, *expected: str) -> bool:
        is_there = self._next in expected and self.at < len(self.signs)
        self.at += is_there
        return is_there

    def _sum(self) -> Values:
        total = self._product()
        while self._next in ("+", "-"):
            sign = -1 if self._take("-") else 1
            self._take("+")
            total = total + sign * self._product()
        return total

    def _product(self) -> Values:
        sign = 1
        while self._next in ("+", "-"):
            sign *= -1 if self._take("-") else 1
            self._take("+")
        result = self._power()
        while True:
            if self._take("*"):
                result = result * self._power()
            elif self._take("/"):
                result = result / self._power()
            elif self._begins_factor():
                result = self._joined(result)
            else:
                return sign * result

    def _joined(self, before: Values) -> Values:
        """Multiply by what follows without a sign; a whole number and a fraction are a sum."""
        is_mixed = self._next == r"\frac" and self.signs[self.at - 1].isdecimal()
        following = self._power()
        return before + following if is_mixed else before * following

    def _begins_factor(self) -> bool:
        sign = self._next
        if sign == "|":
            return not self.is_within_bars
        return sign in ("(", "[", "{") or sign[:1].isalnum() or sign[:1] == "\\" != sign

    def _power(self) -> Values:
        base = self._atom()
        while True:
            if self._take("^"):
                base = base ** self._exponent()
            elif self._take("!"):
                base = _factorial(base)
            else:
                return base

    def _exponent(self) -> Values:
        sign = 1
        while self._take("-"):
            sign = -sign
        return sign * self._atom()

    def _atom(self) -> Values:
        """Evaluate what a power, a root or a function can be taken of; all nesting is here."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise BeyondLimits("nested too deep")
        sign = self._next
        self.at += 1
        values = self._values_at(sign)
        self.depth -= 1
        return values

    def _values_at(self, sign: str) -> Values:
        if sign[:1].isdecimal() or sign[:1] == ".":
            return _constant(_number(sign))
        if sign in ("(", "[", "{"):
            return self._group()
        if sign == "|":
            return self._bars()
        return self._named(sign)

    def _named(self, sign: str) -> Values:
        if sign == r"\frac":
            return self._atom() / self._atom()
        if sign == r"\sqrt":
            degree = self._atom() if self._next == "[" else _constant(2.0)
            return self._atom() ** (1.0 / degree)
        if sign in _FUNCTIONS:
            return self._function(_FUNCTIONS[sign])
        if sign in _CONSTANTS:
            return _constant(_CONSTANTS[sign])
        if is_variable(sign):
            return self._variable(sign)
        raise NotMaths(f"{sign!r} is not understood" if sign else "something is missing")

    def _group(self) -> Values:
        is_within_bars, self.is_within_bars = self.is_within_bars, False
        values = self._sum()
        self.is_within_bars = is_within_bars
        if not self._take(*CLOSING):
            raise NotMaths("a bracket is not closed")
        return values

    def _bars(self) -> Values:
        self.is_within_bars = True
        values = self._sum()
        self.is_within_bars = False
        if not self._take("|"):
            raise NotMaths("a bar is missing")
        return np.abs(values).astype(np.complex128)

    def _function(self, function: Callable[[Values], Values]) -> Values:
        base = self._atom() if self._take("_") else None
        exponent = self._exponent() if self._take("^") else 1.0
        values = function(self._power())
        return (values if base is None else values / np.log(base)) ** exponent

    def _variable(self, name: str) -> Values:
        first = self.at
        if self._take("_"):
            self._atom()
        index = "".join(self.signs[first : self.at]).replace("{", "").replace("}", "")
        return _values_of(name + index)


def _constant(value: complex) -> Values:
    return np.full(N_POINTS, value, np.complex128)


def _number(sign: str) -> float:
    try:
        return float(sign.replace(",", ""))
    except ValueError as error:
        raise NotMaths(f"{sign!r} is no number") from error


def _values_of(name: str) -> Values:
    """Pick a variable's values from -2.5 to 2.5; infinity is a name like any other."""
    digest = np.frombuffer(hashlib.sha256(name.encode()).digest()[: 2 * N_POINTS], "<u2")
    return digest.astype(np.complex128) / 13107.2 - 2.5


def _factorial(values: Values) -> Values:
    number = float(values[0].real)
    if not number.is_integer() or number < 0 or not np.all(values == number):
        raise NotMaths("a factorial is of a whole number")
    if number > MAX_FACTORIAL:
        raise BeyondLimits(f"a factorial is of a number up to {MAX_FACTORIAL}")
    return _constant(float(math.factorial(int(number))))
