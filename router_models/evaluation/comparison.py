"""Is one router better than another? Differences on the same queries, with 95 % intervals.

Queries are drawn with replacement, the same draws for both, so what makes a query hard or dear for
everyone cancels out. A reference counts at its best point: its highest quality, at the lowest cost
at which it reaches that.
"""

from dataclasses import dataclass

import numpy as np

from router_models.evaluation.frontier import (
    Float64,
    Interval,
    Judge,
    Outcomes,
    replicate,
)

ALMOST = 0.99
"""Share of a reference's quality at which costs are compared too."""

ROUNDING = 1e-9
"""Less than this is no difference."""


@dataclass(frozen=True, slots=True)
class Saving:
    """Share of a reference's cost that is saved at (almost) its quality.

    Attributes:
        share: -inf where the quality is not reached.
        reached: Share of the draws in which it is.
    """

    share: Interval
    reached: float


@dataclass(frozen=True, slots=True)
class Difference:
    """What a router has over a reference.

    Attributes:
        reference: Its name.
        quality: At the reference's cost.
        saving: At the reference's quality.
        saving_at_99: At 99 % of it.
        mean_quality: Over all costs from the cheapest to the best single model: the difference of
            `Figures.common_auc`. None beside one model, which has one cost.
    """

    reference: str
    quality: Interval
    saving: Saving
    saving_at_99: Saving
    mean_quality: Interval | None


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One frontier, on all queries and on every draw of them.

    Attributes:
        cost: Mean per query; shape ``(n_points, 1 + draws)``, all queries first.
        quality: Same shape.
        area: `Figures.common_auc`; shape ``(1 + draws,)``.
        naiq: `Figures.naiq`; same shape.
    """

    cost: Float64
    quality: Float64
    area: Float64
    naiq: Float64

    @classmethod
    def of(cls, judge: Judge, outcomes: Outcomes, weights: Float64) -> "Drawn":
        """Sum up `outcomes` under each row of `weights`, as `with_all_queries` makes them."""
        cost, quality = outcomes.points(weights.T)
        figures = replicate(judge, outcomes, weights)
        return cls(cost, quality, figures["common_auc"], figures["naiq"])

    def best(self) -> Float64:
        """Highest quality."""
        best: Float64 = self.quality.max(axis=0)
        return best

    def quality_at(self, cost: Float64) -> Float64:
        """Highest quality at this cost or less; 0 where nothing is that cheap."""
        affordable = self.cost <= cost * (1.0 + 1e-9)
        best: Float64 = np.where(affordable, self.quality, 0.0).max(axis=0)
        return best

    def cost_of(self, quality: Float64) -> Float64:
        """Lowest cost of this quality or more; infinite where it is not reached."""
        reached = self.quality >= quality - 1e-12
        lowest: Float64 = np.where(reached, self.cost, np.inf).min(axis=0)
        return lowest


def with_all_queries(weights: Float64) -> Float64:
    """Put all queries, alike, before the draws of them."""
    n_queries = weights.shape[1]
    return np.concatenate([np.full((1, n_queries), 1.0 / n_queries), weights])


def compare(router: Drawn, reference: Drawn, name: str, *, is_model: bool) -> Difference:
    """Say what `router` has over `reference`; both are under the same draws."""
    best = reference.best()
    return Difference(
        reference=name,
        quality=spread(router.quality_at(reference.cost_of(best)) - best),
        saving=_saving(router, reference, best),
        saving_at_99=_saving(router, reference, ALMOST * best),
        mean_quality=None if is_model else spread(router.area - reference.area),
    )


def is_above(figure: Interval) -> bool:
    """Whether the whole interval is above 0."""
    return figure.low > ROUNDING


def is_below(figure: Interval) -> bool:
    """Whether the whole interval is below 0."""
    return figure.high < -ROUNDING


def spread(values: Float64) -> Interval:
    """Put an interval around the first value, that of all queries, by the draws after it.

    Its ends are draws, not means of two: some may be infinite. Without draws they are NaN.
    """
    if len(values) == 1:
        return Interval(float(values[0]), np.nan, np.nan)
    low, high = np.quantile(values[1:], [0.025, 0.975], method="inverted_cdf")
    return Interval(float(values[0]), float(low), float(high))


def _saving(router: Drawn, reference: Drawn, wanted: Float64) -> Saving:
    paid = np.maximum(reference.cost_of(wanted), 1e-15)
    share = 1.0 - router.cost_of(wanted) / paid
    reached = np.isfinite(share)
    return Saving(spread(share), float(reached[min(1, len(share) - 1) :].mean()))
