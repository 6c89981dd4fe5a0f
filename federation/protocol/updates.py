"""Checks every reply before it counts: a bad one is dropped with a reason, and changes nothing.

Flower's own strategies end a run on a wrong key and turn to NaN on one NaN, so nothing of theirs
looks at a reply before this does.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from flwr.app import Array, Message
from numpy.typing import NDArray

from federation.errors import ReplyRejected
from federation.protocol.failures import read_failure
from federation.protocol.protocol import ARRAYS, Payload, read_refusal

Float64 = NDArray[np.float64]
Length = int | range
"""Of an axis: exact, or anything in a range."""

LEAST_FOR_CAP: Final = 3
"""Of two sites, neither can be overruled by a majority."""

SMALLEST_SHARE: Final = 1e-9
"""Less is what rounding left of nothing."""

MAX_HEADER_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Field:
    """What one array of a reply must look like; values include both ends."""

    shape: tuple[Length, ...]
    dtype: str = "float64"
    low: float = -np.inf
    high: float = np.inf

    def problem_of(self, array: NDArray[Any]) -> str | None:
        """Say what is wrong with `array`; None where nothing is."""
        if not self.allows(array.shape, array.dtype):
            return f"has shape {array.shape} and type {array.dtype}, expected {self}"
        if not np.isfinite(array).all():
            return "holds values that are not finite"
        if array.size and (array.min() < self.low or array.max() > self.high):
            return f"holds values outside {self.low:g} to {self.high:g}"
        return None

    def allows(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
        """Whether an array of this form may be looked at."""
        return (
            dtype == np.dtype(self.dtype)
            and len(shape) == len(self.shape)
            and all(
                have in want if isinstance(want, range) else have == want
                for have, want in zip(shape, self.shape, strict=True)
            )
        )

    def __str__(self) -> str:
        lengths = [f"0 to {n.stop - 1}" if isinstance(n, range) else str(n) for n in self.shape]
        return f"({', '.join(lengths)}) and type {self.dtype}"


def always_valid(_: Payload) -> str | None:
    """Return None: there is nothing more to check."""
    return None


@dataclass(frozen=True, slots=True)
class Form:
    """What a reply must hold: exactly these arrays, in agreement with each other.

    Attributes:
        fields: By name.
        problem_of: Says what disagrees between arrays that are each as they should be.
    """

    fields: Mapping[str, Field]
    problem_of: Callable[[Payload], str | None] = always_valid

    def check(self, payload: Payload) -> None:
        """Check that a payload has this form.

        Raises:
            ReplyRejected: It is not; the message says in what.
        """
        _check_names(payload, self.fields)
        for name, expected in self.fields.items():
            problem = expected.problem_of(payload[name])
            if problem is not None:
                raise ReplyRejected(f"{name!r} {problem}")
        problem = self.problem_of(payload)
        if problem is not None:
            raise ReplyRejected(problem)


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """One site's valid reply."""

    site: str
    payload: Payload


def read_reply(message: Message, form: Form) -> Payload:
    """Unpack a reply of this form; nothing is unpacked that is larger than the form allows.

    Raises:
        ReplyRejected: The node failed, refused, or sent something else.
    """
    failed, refused = read_failure(message), read_refusal(message)
    if failed is not None:
        raise ReplyRejected(failed)
    if refused is not None:
        raise ReplyRejected(f"the site refused: {refused}")
    if set(message.content) != {ARRAYS} or ARRAYS not in message.content.array_records:
        raise ReplyRejected(f"the reply holds other records than {ARRAYS!r}")
    arrays = message.content.array_records[ARRAYS]
    _check_names(arrays, form.fields)
    payload = {name: _unpack(name, arrays[name], form.fields[name]) for name in form.fields}
    form.check(payload)
    return payload


def screen_norms(
    lengths: Mapping[str, float], longest: float
) -> tuple[frozenset[str], dict[str, str]]:
    """Part sites whose updates are `longest` times as long as the median one from the others.

    The median is the lower one of an even number, so that of two sites the short one judges.
    Updates of length 0 do not judge.

    Returns:
        Sites in good order, and why each of the others is not.
    """
    judging = sorted(length for length in lengths.values() if length > 0)
    limit = longest * judging[(len(judging) - 1) // 2] if judging else np.inf
    rejected = {
        site: f"the update is {length / limit * longest:.3g} times as long as the median one"
        for site, length in lengths.items()
        if length > limit
    }
    return frozenset(lengths) - rejected.keys(), rejected


def cap_weights(weights: Float64, largest_share: float) -> Float64:
    """Lower the largest weights until none is more than `largest_share` of their sum.

    Sites report their own weights, so no single site may outweigh all others. The cap is
    at least an equal share, and fewer than three sites are left alone: there is no majority.

    Args:
        weights: Never negative; shape ``(n_sites,)``.
        largest_share: From 0 to 1.
    """
    ordered = np.sort(weights[weights > 0])[::-1]
    if len(ordered) < LEAST_FOR_CAP:
        return weights
    limit = 0.0
    for n_capped, largest in enumerate(ordered):
        rest, left = float(ordered[n_capped:].sum()), 1.0 - n_capped * largest_share
        limit = largest_share * rest / left if left > SMALLEST_SHARE else largest
        if largest <= limit:
            break
    fair: Float64 = np.minimum(weights, max(limit, ordered[-1]))
    return fair


def sum_replies(replies: Sequence[Reply], rows: Float64, largest_share: float) -> Payload:
    """Add up sums of several sites, each scaled down where it would count for too much.

    Args:
        replies: All with the same names and shapes.
        rows: What each says its sums were made of; shape ``(n_replies,)``.
        largest_share: Of the rows of all.
    """
    factors = cap_weights(rows, largest_share) / np.where(rows > 0, rows, 1.0)
    total = {name: array * factors[0] for name, array in replies[0].payload.items()}
    for reply, factor in zip(replies[1:], factors[1:], strict=True):
        total = {name: array + reply.payload[name] * factor for name, array in total.items()}
    return total


def _check_names(given: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    if set(given) != set(expected):
        odd = ", ".join(sorted(set(given) ^ set(expected)))[:200]
        raise ReplyRejected(f"arrays are missing or unknown: {odd}")


def _unpack(name: str, array: Array, expected: Field) -> NDArray[Any]:
    """Read one array in NumPy's own format, its header first.

    https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    stream = io.BytesIO(array.data)
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ReplyRejected(f"{name!r} is in version {version} of NumPy's format, not 1.0")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(
            stream, max_header_size=MAX_HEADER_BYTES
        )
        if not expected.allows(shape, dtype):
            raise ReplyRejected(f"{name!r} has shape {shape} and type {dtype}, expected {expected}")
        flat = np.frombuffer(array.data, dtype, offset=stream.tell())
        return flat.reshape(shape, order="F" if is_fortran else "C")
    except (ValueError, SyntaxError) as error:
        raise ReplyRejected(f"{name!r} is no array in NumPy's format") from error
