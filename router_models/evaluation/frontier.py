"""How good a router is: its accuracy-cost frontier, and figures that sum it up.

Protocol of arXiv 2601.22318: the willingness to pay is swept, each value gives one point of mean
realised cost and quality. The paper's AUC can reward a router that refuses cheap models, so two
more figures stand beside it: see `Figures`.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from router_models.errors import InvalidEvaluations
from router_models.statistics import select, select_models
from router_models.types import Evaluations, Prediction

Float64 = NDArray[np.float64]

LAMBDAS: Float64 = np.geomspace(1e-2, 1e7, 100)
"""Quality given up per USD saved; one over the willingness to pay."""

COVERAGE = 0.8
"""Share of the queries that a model must have answered to be part of a frontier."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What really happened to each query at each point of a frontier.

    Attributes:
        quality: Shape ``(n_points, n_queries)``.
        cost_usd: Same shape.
    """

    quality: Float64
    cost_usd: Float64

    def points(self, weights: Float64 | None = None) -> tuple[Float64, Float64]:
        """Mean cost and quality per point.

        Args:
            weights: Over the queries, sum 1; or several such columns, and so are the means.
        """
        if weights is None:
            return self.cost_usd.mean(axis=1), self.quality.mean(axis=1)
        return self.cost_usd @ weights, self.quality @ weights

    def at(self, point: int) -> "Outcomes":
        """Keep one point."""
        return Outcomes(self.quality[[point]], self.cost_usd[[point]])


@dataclass(frozen=True, slots=True)
class Figures:
    """One frontier in numbers.

    Attributes:
        own_range_auc: The paper's: trapezoid area over the router's own cost range.
        common_auc: Area of the monotone envelope from the cheapest model's to the best model's
            mean cost, divided by that range; 0 below the router's cheapest point.
        saved: Share of the best model's cost saved at its quality; 0 where never reached, negative
            where reached at a higher cost.
        saved_at_99: The same at 99 % of its quality.
        naiq: Area under the convex hull over the common range; 0 is the best random mix of single
            models, 1 the oracle.
        quality_first: Quality where cost does not count, the smallest lambda.
        cost_first_usd: Mean cost per query there.
        best_quality: Highest quality at any lambda.
    """

    own_range_auc: float
    common_auc: float
    saved: float
    saved_at_99: float
    naiq: float
    quality_first: float
    cost_first_usd: float
    best_quality: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def covered(
    evaluations: Evaluations, coverage: float = COVERAGE
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the models that answered at least `coverage` of the queries, then their full rows.

    Returns:
        Rows and columns; both empty where no query was answered by all of these models.
    """
    answered = np.isfinite(evaluations.quality)
    columns = np.flatnonzero(answered.mean(axis=0) >= coverage)
    rows = np.flatnonzero(answered[:, columns].all(axis=1))
    return (rows, columns) if len(rows) and len(columns) else (rows[:0], columns[:0])


def complete(evaluations: Evaluations, coverage: float = COVERAGE) -> Evaluations:
    """Keep what is `covered`: a frontier needs what every model would have done on every query.

    Raises:
        InvalidEvaluations: No query was answered by all the models kept.
    """
    rows, columns = covered(evaluations, coverage)
    if not len(rows):
        raise InvalidEvaluations(
            "a frontier needs queries that every model answered, and there is none; "
            f"models that answered less than {coverage:.0%} of the queries were left out already"
        )
    return select_models(select(evaluations, rows), columns)


def route(prediction: Prediction, truth: Evaluations, lambdas: Float64 = LAMBDAS) -> Outcomes:
    """Let a prediction choose a model per query and lambda; see what that really gave."""
    queries = np.arange(len(prediction.quality))
    quality, cost = np.empty((2, len(lambdas), len(queries)))
    predicted_quality = prediction.quality.astype(np.float64)
    predicted_cost = prediction.cost_usd.astype(np.float64)
    for point, price in enumerate(lambdas):
        chosen = np.argmax(predicted_quality - price * predicted_cost, axis=1)
        quality[point] = truth.quality[queries, chosen]
        cost[point] = truth.cost_usd[queries, chosen]
    return Outcomes(quality, cost)


def oracle(truth: Evaluations, lambdas: Float64 = LAMBDAS) -> Outcomes:
    """Choose knowing what every model will do; no router can beat it."""
    return route(Prediction(truth.quality, truth.cost_usd), truth, lambdas)


def singles(truth: Evaluations) -> Outcomes:
    """Every model alone, one point each; straight lines between them are random mixes."""
    return Outcomes(truth.quality.T.astype(np.float64), truth.cost_usd.T.astype(np.float64))


def envelope(cost: Float64, quality: Float64) -> tuple[Float64, Float64]:
    """Sort points by cost and let quality never fall: spending more may always mean doing less."""
    order = np.lexsort((-quality, cost))
    return cost[order], np.maximum.accumulate(quality[order])


def hull(cost: Float64, quality: Float64) -> tuple[Float64, Float64]:
    """Upper concave hull of the envelope: what random mixes of the points can reach."""
    kept: list[tuple[float, float]] = []
    for x, y in zip(*envelope(cost, quality), strict=True):
        if kept and (x <= kept[-1][0] or y <= kept[-1][1]):
            continue
        while len(kept) > 1 and _is_below(kept[-2], kept[-1], (x, y)):
            kept.pop()
        kept.append((float(x), float(y)))
    corners = np.array(kept)
    return corners[:, 0], corners[:, 1]


def _is_below(
    left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]
) -> bool:
    """Whether `middle` lies on or under the line from `left` to `right`."""
    rise = (right[1] - left[1]) * (middle[0] - left[0])
    return (middle[1] - left[1]) * (right[0] - left[0]) <= rise


def _area(x: Float64, y: Float64) -> float:
    """Trapezoid area; numpy 1.26 and 2.0 call theirs by different names."""
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2.0)


def own_range_auc(cost: Float64, quality: Float64) -> float:
    """Trapezoid area over the points' own cost range, divided by it: the paper's AUC."""
    order = np.argsort(cost, kind="stable")
    x, y = cost[order], quality[order]
    width = x[-1] - x[0]
    if width <= 0:
        return float(y.mean())
    return _area(x, y) / float(width)


def common_auc(cost: Float64, quality: Float64, low: float, high: float) -> float:
    """Area of the monotone envelope as steps from `low` to `high`, divided by that range.

    0 below the cheapest point; a point's quality holds from its cost on.
    """
    if high <= low:
        return float(max(quality[cost <= high], default=0.0))
    x, y = envelope(cost, quality)
    ends = np.clip(np.append(x[1:], np.inf), low, high)
    return float(((ends - np.clip(x, low, high)) * y).sum() / (high - low))


def hull_auc(cost: Float64, quality: Float64, low: float, high: float) -> float:
    """Area of the concave hull from `low` to `high`, divided by that range."""
    x, y = hull(cost, quality)
    inside = x[(x > low) & (x < high)]
    grid = np.concatenate([[low], inside, [high]])
    height = np.interp(grid, x, y, left=0.0)
    return _area(grid, height) / (high - low) if high > low else float(height[-1])


def cost_saved(cost: Float64, quality: Float64, wanted: float, reference_usd: float) -> float:
    """Share of `reference_usd` saved by the cheapest point of at least quality `wanted`."""
    reached = cost[quality >= wanted - 1e-12]
    if not len(reached) or reference_usd <= 0:
        return 0.0
    return float(1.0 - reached.min() / reference_usd)


Points = tuple[Float64, Float64]
"""Mean cost and quality of each point of a frontier."""


def _figures(points: Points, single_models: Points, oracle_points: Points) -> Figures:
    cost, quality = points
    single_cost, single_quality = single_models
    best = int(np.lexsort((single_cost, -single_quality))[0])
    low, high = float(single_cost.min()), float(single_cost[best])
    wanted = float(single_quality[best])
    mix = hull_auc(single_cost, single_quality, low, high)
    gap = hull_auc(*oracle_points, low, high) - mix
    gain = hull_auc(cost, quality, low, high) - mix
    return Figures(
        own_range_auc=own_range_auc(cost, quality),
        common_auc=common_auc(cost, quality, low, high),
        saved=cost_saved(cost, quality, wanted, high),
        saved_at_99=cost_saved(cost, quality, 0.99 * wanted, high),
        naiq=gain / gap if gap > 1e-12 else 0.0,
        quality_first=float(quality[0]),
        cost_first_usd=float(cost[0]),
        best_quality=float(quality.max()),
    )


@dataclass(frozen=True, slots=True)
class Judge:
    """Measures frontiers on one set of queries, against the same references.

    Attributes:
        single_models: The models alone.
        oracle: The best choice per query.
    """

    single_models: Outcomes
    oracle: Outcomes

    @classmethod
    def of(cls, truth: Evaluations, lambdas: Float64 = LAMBDAS) -> "Judge":
        """Take the references from what the models really did."""
        return cls(singles(truth), oracle(truth, lambdas))

    def figures(self, outcomes: Outcomes, weights: Float64 | None = None) -> Figures:
        """Sum a frontier up; `weights` over the queries sum to 1."""
        return _figures(
            outcomes.points(weights),
            self.single_models.points(weights),
            self.oracle.points(weights),
        )

    def mix(self, points: int = 100) -> Outcomes:
        """The best random mixes of single models as a frontier of its own, the best model first."""
        cost, quality = self.single_models.points()
        corner_cost, corner_quality = hull(cost, quality)
        pairs = zip(corner_cost, corner_quality, strict=True)
        of_corner = [int(np.flatnonzero((cost == x) & (quality == y))[0]) for x, y in pairs]
        share = np.zeros((points, len(cost)))
        place = np.linspace(len(of_corner) - 1, 0.0, points)
        left = np.minimum(place.astype(int), max(len(of_corner) - 2, 0))
        right = np.minimum(left + 1, len(of_corner) - 1)
        rows, corners = np.arange(points), np.array(of_corner)
        share[rows, corners[left]] += 1.0 - (place - left)
        share[rows, corners[right]] += place - left
        return Outcomes(share @ self.single_models.quality, share @ self.single_models.cost_usd)

    def single(self, model: int) -> Outcomes:
        """One model alone, as a frontier of one point."""
        return self.single_models.at(model)

    def best_single(self) -> int:
        """Index of the model of highest quality, the cheaper of equals."""
        cost, quality = self.single_models.points()
        return int(np.lexsort((cost, -quality))[0])


def bootstrap_weights(n_queries: int, replicates: int, rng: np.random.Generator) -> Float64:
    """Draw queries with replacement; shape ``(replicates, n_queries)``, rows sum to 1.

    The same weights for every router make their differences paired.
    """
    return rng.multinomial(n_queries, np.full(n_queries, 1.0 / n_queries), replicates) / n_queries


def replicate(judge: Judge, outcomes: Outcomes, weights: Float64) -> dict[str, Float64]:
    """Every figure on every bootstrap draw; shape ``(replicates,)`` each."""
    frontiers = [
        frontier.points(weights.T) for frontier in (outcomes, judge.single_models, judge.oracle)
    ]
    drawn = [
        _figures(*((cost[:, draw], quality[:, draw]) for cost, quality in frontiers))
        for draw in range(len(weights))
    ]
    return {
        item.name: np.array([getattr(figures, item.name) for figures in drawn])
        for item in fields(Figures)
    }


def interval(value: float, draws: Float64) -> Interval:
    """Put the 2.5 and 97.5 % quantiles of `draws` around `value`."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def routing_gains(prediction: Prediction, truth: Evaluations, lambdas: Float64) -> Float64:
    """What routing wins on each query, as a share of what the oracle wins on average.

    Averaged over `lambdas`, each on its own utility; 0 is the best single model, 1 the oracle's
    mean. Models that did not answer a query are no candidates for it.

    Returns:
        Shape ``(n_queries,)``.
    """
    queries = np.arange(len(truth.quality))
    answered = np.isfinite(truth.quality)
    total, priced = np.zeros(len(queries)), 0
    for price in lambdas:
        utility = np.where(answered, truth.quality - price * truth.cost_usd, -np.inf)
        expected = np.where(answered, prediction.quality - price * prediction.cost_usd, -np.inf)
        got = utility[queries, np.argmax(expected, axis=1)]
        means = np.where(answered, utility, 0.0).sum(axis=0) / np.maximum(answered.sum(axis=0), 1)
        best = int(np.argmax(np.where(answered.any(axis=0), means, -np.inf)))
        single = np.where(answered[:, best], utility[:, best], utility.max(axis=1)).mean()
        gap = utility.max(axis=1).mean() - single
        if gap > 1e-9:
            total += (got - single) / gap
            priced += 1
    return total / max(priced, 1)


def oracle_gain(prediction: Prediction, truth: Evaluations, lambdas: Float64) -> float:
    """Share of the oracle's gain over the best single model that routing keeps.

    The mean of `routing_gains`: what training tunes for, because it counts every operating point
    and moves less by chance than an accuracy at one of them.
    """
    return float(routing_gains(prediction, truth, lambdas).mean())
