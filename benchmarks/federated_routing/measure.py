"""The three figures of a frontier, their intervals, and differences paired by query and seed."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router_models.evaluation.frontier import Interval, Judge, Outcomes, interval

Float64 = NDArray[np.float64]

FIGURES: Final = ("own_range_auc", "common_auc", "saved")
"""Of `router_models.evaluation.frontier.Figures`, and in this order everywhere below."""

OWN_RANGE, COMMON, SAVED = range(3)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A router's figures on one set of test rows.

    Attributes:
        values: Shape ``(3,)``, in the order of `FIGURES`.
        draws: The same on each bootstrap draw of the queries; shape ``(3, n_draws)``. Routers
            measured with the same weights are paired draw by draw.
    """

    values: Float64
    draws: Float64

    def __sub__(self, other: "Measured") -> "Measured":
        """The difference, paired."""
        return Measured(self.values - other.values, self.draws - other.draws)

    def interval(self, figure: int) -> Interval:
        """One figure with its interval over queries."""
        return interval(float(self.values[figure]), self.draws[figure])


def measure(judge: Judge, outcomes: Outcomes, weights: Float64) -> Measured:
    """Take the three figures on all queries and on every draw of `weights`.

    As `Judge.figures` does, but for all draws at once: a client at a time, this is what the
    benchmark would otherwise spend most of its time on.

    Args:
        judge: Of the same queries.
        outcomes: The router's.
        weights: Shape ``(n_draws, n_queries)``; rows sum to 1.
    """
    n_queries = outcomes.quality.shape[1]
    every = np.concatenate([np.full((1, n_queries), 1.0 / n_queries), weights]).T
    cost, quality = outcomes.cost_usd @ every, outcomes.quality @ every
    single_cost, single_quality = (
        judge.single_models.cost_usd @ every,
        judge.single_models.quality @ every,
    )
    best = np.array(
        [np.lexsort(pair)[0] for pair in zip(single_cost.T, -single_quality.T, strict=True)]
    )
    draws = np.arange(every.shape[1])
    low, high = single_cost.min(axis=0), single_cost[best, draws]
    own = _own_range_auc(cost, quality)
    shared = _common_auc(cost, quality, low, high)
    saved = _cost_saved(cost, quality, single_quality[best, draws], high)
    figures = np.stack([own, shared, saved])
    return Measured(figures[:, 0], figures[:, 1:])


def _own_range_auc(cost: Float64, quality: Float64) -> Float64:
    order = np.argsort(cost, axis=0, kind="stable")
    x, y = np.take_along_axis(cost, order, 0), np.take_along_axis(quality, order, 0)
    area = (np.diff(x, axis=0) * (y[1:] + y[:-1])).sum(axis=0) / 2.0
    width = x[-1] - x[0]
    own: Float64 = np.where(width > 0, area / np.where(width > 0, width, 1.0), y.mean(axis=0))
    return own


def _common_auc(cost: Float64, quality: Float64, low: Float64, high: Float64) -> Float64:
    """Area under the envelope as steps; where the best model is the cheapest, its height there."""
    best_first = np.argsort(-quality, axis=0, kind="stable")
    cost, quality = (np.take_along_axis(v, best_first, 0) for v in (cost, quality))
    order = np.argsort(cost, axis=0, kind="stable")
    x = np.take_along_axis(cost, order, 0)
    y = np.maximum.accumulate(np.take_along_axis(quality, order, 0), axis=0)
    ends = np.concatenate([x[1:], np.full((1, x.shape[1]), np.inf)])
    steps = ((np.clip(ends, low, high) - np.clip(x, low, high)) * y).sum(axis=0)
    width = high - low
    flat = np.where(cost <= high, quality, 0.0).max(axis=0)
    shared: Float64 = np.where(width > 0, steps / np.where(width > 0, width, 1.0), flat)
    return shared


def _cost_saved(cost: Float64, quality: Float64, wanted: Float64, reference: Float64) -> Float64:
    cheapest = np.where(quality >= wanted - 1e-12, cost, np.inf).min(axis=0)
    reached = np.isfinite(cheapest) & (reference > 0)
    share = 1.0 - np.where(reached, cheapest, 0.0) / np.where(reference > 0, reference, 1.0)
    saved: Float64 = np.where(reached, share, 0.0)
    return saved


def mean_of(measured: list[Measured]) -> Measured:
    """Average over clients measured with the same weights."""
    return Measured(
        np.mean([one.values for one in measured], axis=0),
        np.mean([one.draws for one in measured], axis=0),
    )


def over_seeds(runs: list[Measured], rng: np.random.Generator) -> Measured:
    """Average over seeds; each draw draws the seeds too, with replacement, then each one's queries.

    Seeds deal the same queries anew, so they are not quite independent: intervals are a little
    too narrow for queries never seen.
    """
    n_draws = runs[0].draws.shape[1]
    seeds = rng.integers(0, len(runs), (n_draws, len(runs)))
    places = rng.integers(0, n_draws, (n_draws, len(runs)))
    stacked = np.stack([run.draws for run in runs])
    drawn = stacked[seeds, :, places].mean(axis=1).T
    return Measured(np.mean([run.values for run in runs], axis=0), drawn)
