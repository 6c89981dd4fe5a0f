"""Compares mathematical answers by their values at fixed points.

Two expressions that agree at several points picked without regard to them are taken to be the same
(Schwartz 1980). No answer can keep a grader busy, which no time limit can promise of a computer
algebra system: `math-verify` (on SymPy) takes 0.1 to 1 s for what takes 0.2 ms here. The tests
compare this module's verdicts with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np

from router_models.verifiers.expressions import (
    CLOSING,
    MAX_DEPTH,
    N_POINTS,
    OPENING,
    BeyondLimits,
    NotMaths,
    Values,
    evaluate,
    is_variable,
    tokens_of,
)

MAX_CHARS: Final = 500
RELATIVE: Final = 1e-6
ABSOLUTE: Final = 1e-9

_RELATIONS = ("=", "<", "<=", ">", ">=")
_UNORDERED = (",", "{}", r"\cup")
_TURNED = {">": "<", ">=": "<="}


@dataclass(frozen=True, slots=True, eq=False)
class Maths:
    r"""A mathematical answer.

    Attributes:
        form: Empty for an expression, ``,`` for a list, brackets such as ``[)`` for a tuple or an
            interval, ``{}`` for a set, ``\cup`` for a union, or the signs of a relation.
        parts: What the form is made of.
        values: Of an expression.
        is_name: It is one variable, which may label the answer.
    """

    form: str
    parts: tuple["Maths", ...] = ()
    values: Values | None = None
    is_name: bool = False


def parse_maths(text: str) -> Maths:
    """Parse LaTeX or plain notation.

    Raises:
        NotMaths: It is neither.
        BeyondLimits: It is too long, too deep or too large.
    """
    if len(text) > MAX_CHARS:
        raise BeyondLimits(f"longer than {MAX_CHARS} characters")
    return _read(tokens_of(text))


def is_equivalent(one: Maths, other: Maths) -> bool:
    """Whether two answers mean the same; ``x = 5`` is the same as 5."""
    if one.form != other.form:
        one, other = _without_label(one), _without_label(other)
    if one.form != other.form or len(one.parts) != len(other.parts):
        return False
    if one.values is not None and other.values is not None:
        return _is_close(one.values, other.values)
    if one.form == "=":
        return _is_equivalent_equation(one, other)
    if one.form in _UNORDERED:
        return _is_permutation_of(one.parts, other.parts)
    return all(map(is_equivalent, one.parts, other.parts))


def _is_permutation_of(ones: Sequence[Maths], others: Sequence[Maths]) -> bool:
    left = list(others)
    for one in ones:
        match = next((at for at, other in enumerate(left) if is_equivalent(one, other)), None)
        if match is None:
            return False
        del left[match]
    return True


def _is_close(one: Values, other: Values) -> bool:
    with np.errstate(all="ignore"):
        return bool(np.all(np.abs(one - other) <= ABSOLUTE + RELATIVE * np.abs(other)))


def _is_equivalent_equation(one: Maths, other: Maths) -> bool:
    """Whether two equations of two sides have the same solutions, so far as a factor tells."""
    sides = [part.values for part in (*one.parts, *other.parts)]
    if any(side is None for side in sides):
        return all(map(is_equivalent, one.parts, other.parts))
    here, there, here_too, there_too = (np.asarray(side) for side in sides)
    if _is_close(here, here_too) and _is_close(there, there_too):
        return True
    with np.errstate(all="ignore"):
        ratio = (here - there) / (here_too - there_too)
    return bool(np.isfinite(ratio).all() and ratio[0] != 0) and _is_close(
        ratio, np.full(N_POINTS, ratio[0])
    )


def _without_label(maths: Maths) -> Maths:
    is_labelled = maths.form == "=" and len(maths.parts) == 2 and maths.parts[0].is_name
    return maths.parts[1] if is_labelled else maths


def _read(signs: Sequence[str], depth: int = 0) -> Maths:
    """Read what may be a union, a relation, a list, a tuple or an expression."""
    if depth > MAX_DEPTH:
        raise BeyondLimits("nested too deep")
    # In "x = 1, 2" the list is what x may be; in "x = 1, y = 2" it is a list of relations.
    is_one_relation = len(_split(signs, _RELATIONS)[1]) == 1
    order = (_RELATIONS, (",",)) if is_one_relation else ((",",), _RELATIONS)
    for separators in ((r"\cup",), *order):
        pieces, found = _split(signs, separators)
        if found:
            return _join(found, tuple(_read(piece, depth + 1) for piece in pieces))
    if signs and signs[0] in OPENING and signs[-1] in CLOSING and _is_one_group(signs):
        pieces, commas = _split(signs[1:-1], (",",))
        if commas or signs[0] == r"\{":
            form = (signs[0] + signs[-1]).replace("\\", "")
            return Maths(form, tuple(_read(piece, depth + 1) for piece in pieces))
    values = evaluate(signs)
    if not np.isfinite(values).all():
        raise NotMaths("it has no value")
    return Maths("", values=values, is_name=len(signs) == 1 and is_variable(signs[0]))


def _join(separators: Sequence[str], parts: tuple[Maths, ...]) -> Maths:
    """Put parts together; 2 > x reads x < 2."""
    if set(separators) <= set(_TURNED):
        return Maths(" ".join(_TURNED[one] for one in reversed(separators)), parts[::-1])
    is_relation = separators[0] in _RELATIONS
    return Maths(" ".join(separators) if is_relation else separators[0], parts)


def _split(
    signs: Sequence[str], separators: Sequence[str]
) -> tuple[list[Sequence[str]], list[str]]:
    """Split outside of brackets; returns pieces and the separators between them."""
    pieces, found, depth, start = [], [], 0, 0
    for at, sign in enumerate(signs):
        depth += (sign in OPENING) - (sign in CLOSING)
        if depth == 0 and sign in separators:
            pieces.append(signs[start:at])
            found.append(sign)
            start = at + 1
    return [*pieces, signs[start:]], found


def _is_one_group(signs: Sequence[str]) -> bool:
    """Whether the bracket that opens first closes last."""
    changes = ((sign in OPENING) - (sign in CLOSING) for sign in signs[:-1])
    return all(depth > 0 for depth in accumulate(changes))
