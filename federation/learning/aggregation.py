"""Rules that make one set of arrays out of several clients' arrays.

A rule sees each client's arrays with a weight for every column (the last axis) of every array, so
that a client moves a model's head only by the rows it has for that model. Where nobody has a weight
the current value stays.

The weighted mean is the rule for clients that are trusted; one client of ten moves it anywhere.
The median and the trimmed mean bear a minority of hostile clients, but need to see each client's
arrays: they exclude secure sums.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models.types import Arrays

Float64 = NDArray[np.float64]

TRIM_SHARE = 0.3
"""Three hostile clients of ten lose their say, and four honest ones are still averaged."""

WEIGHT_PREFIX = "weight."
"""Before the name of an array in `WeightedSums.to_arrays`: the sums of its weights."""


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """One client's arrays.

    Attributes:
        arrays: By name.
        weights: For each of them what it counts, never negative: shape ``()`` for the array as a
            whole, or ``(n_columns,)`` for each column of its last axis.
    """

    arrays: Arrays
    weights: Arrays


Rule = Callable[[Arrays, Sequence[Contribution]], dict[str, NDArray[Any]]]
"""Takes the current arrays and the contributions; returns the next arrays, of the same dtypes."""


@dataclass(frozen=True, slots=True, eq=False)
class WeightedSums:
    """Weighted arrays added up over clients; additive, so a secure sum can add them unseen.

    Attributes:
        sums: Array times weight, by name.
        weights: Sums of the weights, by name; shapes as in `Contribution`.
    """

    sums: Mapping[str, Float64]
    weights: Mapping[str, Float64]

    @classmethod
    def gather(cls, contribution: Contribution) -> "WeightedSums":
        """Weigh one client's arrays."""
        weights = {n: np.asarray(w, np.float64) for n, w in contribution.weights.items()}
        return cls(
            {n: np.asarray(a, np.float64) * weights[n] for n, a in contribution.arrays.items()},
            weights,
        )

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> "WeightedSums":
        """Rebuild from `to_arrays`."""
        weights = {
            name.removeprefix(WEIGHT_PREFIX): np.asarray(array, np.float64)
            for name, array in arrays.items()
            if name.startswith(WEIGHT_PREFIX)
        }
        return cls({name: np.asarray(arrays[name], np.float64) for name in weights}, weights)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs."""
        return {**self.sums, **{WEIGHT_PREFIX + n: w for n, w in self.weights.items()}}

    def __add__(self, other: "WeightedSums") -> "WeightedSums":
        """Join another client's arrays."""
        return WeightedSums(
            {name: total + other.sums[name] for name, total in self.sums.items()},
            {name: total + other.weights[name] for name, total in self.weights.items()},
        )

    def mean(self, current: Arrays) -> dict[str, NDArray[Any]]:
        """Divide by the weights; `current` where there is none."""
        return {
            name: _where_known(
                self.weights[name] > 0.0,
                total / np.where(self.weights[name] > 0.0, self.weights[name], 1.0),
                current[name],
            )
            for name, total in self.sums.items()
        }


def weighted_mean(
    current: Arrays, contributions: Sequence[Contribution]
) -> dict[str, NDArray[Any]]:
    """Average, each column by its weights; FedAvg (arXiv 1602.05629) with a weight per head."""
    if not contributions:
        return dict(current)
    # One at a time: a thousand clients' weights in double precision do not fit in memory.
    return reduce(add, map(WeightedSums.gather, contributions)).mean(current)


def coordinate_median(
    current: Arrays, contributions: Sequence[Contribution]
) -> dict[str, NDArray[Any]]:
    """Take the median of each coordinate over the clients that weigh anything there.

    Yin et al. 2018 (arXiv 1803.01498), definition 1. Clients count alike: a weight is a claim.
    """
    return _per_coordinate(current, contributions, _median)


def trimmed_mean(
    current: Arrays, contributions: Sequence[Contribution], share: float = TRIM_SHARE
) -> dict[str, NDArray[Any]]:
    """Average each coordinate without its `share` of highest and of lowest values.

    Yin et al. 2018 (arXiv 1803.01498), definition 2. Clients count alike, as in the median.

    Raises:
        ValueError: `share` leaves nothing over.
    """
    if not 0.0 <= share < 0.5:
        raise ValueError(f"a share to trim must be at least 0 and below 0.5, not {share}")

    def average(stacked: Float64, known: NDArray[np.intp]) -> Float64:
        rank = np.arange(len(stacked)).reshape(-1, *[1] * (stacked.ndim - 1))
        cut = np.floor(share * known)
        kept = (rank >= cut) & (rank < known - cut)
        total: Float64 = np.where(kept, stacked, 0.0).sum(axis=0)
        mean: Float64 = total / np.maximum(kept.sum(axis=0), 1)
        return mean

    return _per_coordinate(current, contributions, average)


RULES: dict[str, Rule] = {
    "mean": weighted_mean,
    "median": coordinate_median,
    "trimmed_mean": trimmed_mean,
}
"""What a plan may name."""

ROBUST_RULES = frozenset({"median", "trimmed_mean"})
"""Those that must see each client's arrays, so that no secure sum can feed them."""

WINSORIZED_SHARES: dict[str, float] = {"median": 0.5, "trimmed_mean": TRIM_SHARE}
"""What robust rules mean for sums; see `winsorize`."""


def update_norm(current: Arrays, arrays: Arrays) -> float:
    """Euclidean distance of all `arrays` together from the `current` ones."""
    squares = (
        float(np.square(np.asarray(array, np.float64) - current[name]).sum())
        for name, array in arrays.items()
    )
    return float(np.sqrt(sum(squares)))


def clip_update(current: Arrays, arrays: Arrays, max_norm: float) -> dict[str, NDArray[Any]]:
    """Pull `arrays` towards `current` until their distance is at most `max_norm`."""
    norm = update_norm(current, arrays)
    if norm <= max_norm:
        return dict(arrays)
    share = max_norm / norm
    return {
        name: (current[name] + (np.asarray(array, np.float64) - current[name]) * share).astype(
            array.dtype
        )
        for name, array in arrays.items()
    }


def clip_norms(
    current: Arrays, contributions: Sequence[Contribution], ratio: float
) -> list[Contribution]:
    """Shorten updates that are more than `ratio` times as long as the median one.

    Relative, since the length of an honest update shrinks as training goes on; half of the clients
    would have to conspire to move the median. Sun et al. 2019 (arXiv 1911.07963), section 5.
    """
    if not contributions:
        return []
    norms = [update_norm(current, contribution.arrays) for contribution in contributions]
    max_norm = ratio * float(np.median(norms))
    return [
        replace(contribution, arrays=clip_update(current, contribution.arrays, max_norm))
        for contribution in contributions
    ]


def winsorize(totals: Float64, counts: Float64, share: float) -> Float64:
    """Move sites' sums so that no site's mean of a model lies outside those of the middle sites.

    Sums cannot be left out value by value as weights can, but what a site says of a model on the
    whole can be held to what others say of it. Where that is more than most say, its sums shrink;
    where it is less, the difference is spread over its evaluations.

    Args:
        totals: Never negative; shape ``(n_sites, ..., n_models)``.
        counts: Evaluations behind each; same shape.
        share: Of the sites with evaluations of a model, how many highest and lowest are moved; 0.5
            moves all to the median.

    Returns:
        Totals of the same shape.
    """
    inner = tuple(range(1, totals.ndim - 1))
    rows = counts.sum(axis=inner, keepdims=True)
    mean = totals.sum(axis=inner, keepdims=True) / np.where(rows > 0, rows, 1.0)
    ordered = np.sort(np.where(rows > 0, mean, np.inf), axis=0)
    known = (rows > 0).sum(axis=0, keepdims=True)
    cut = np.minimum(np.floor(share * known), np.maximum(known - 1, 0) // 2).astype(np.intp)
    low, high = (
        np.take_along_axis(ordered, at, axis=0) for at in (cut, np.maximum(known - 1 - cut, 0))
    )
    shrunk = totals * np.divide(high, mean, out=np.ones_like(mean), where=mean > high)
    missing = np.where((rows > 0) & (mean < low), low - mean, 0.0)
    moved: Float64 = shrunk + missing * counts
    return moved


def _per_coordinate(
    current: Arrays,
    contributions: Sequence[Contribution],
    reduce: Callable[[Float64, NDArray[np.intp]], Float64],
) -> dict[str, NDArray[Any]]:
    """Reduce each coordinate, given its sorted values, unknown ones last, and their number."""
    if not contributions:
        return dict(current)
    reduced = {}
    for name, array in current.items():
        stacked = np.stack(
            [
                np.where(np.asarray(c.weights[name]) > 0.0, c.arrays[name], np.inf)
                for c in contributions
            ]
        ).astype(np.float64)
        stacked.sort(axis=0)
        known = np.isfinite(stacked).sum(axis=0)
        reduced[name] = _where_known(known > 0, reduce(stacked, known), array)
    return reduced


def _median(stacked: Float64, known: NDArray[np.intp]) -> Float64:
    last = np.maximum(known - 1, 0)
    low = np.take_along_axis(stacked, (last // 2)[None], axis=0)[0]
    high = np.take_along_axis(stacked, (-(-last // 2))[None], axis=0)[0]
    return np.where(known > 0, low, 0.0) / 2 + np.where(known > 0, high, 0.0) / 2


def _where_known(known: NDArray[Any], value: Float64, current: NDArray[Any]) -> NDArray[Any]:
    chosen: NDArray[Any] = np.where(known, value, current).astype(current.dtype)
    return chosen
