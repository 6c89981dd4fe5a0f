"""Everything that is known about some routers on one table, as it is written to JSON."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_models.evaluation.comparison import (
    Difference,
    Drawn,
    compare,
    is_above,
    spread,
    with_all_queries,
)
from router_models.evaluation.fixed_choice import TURNS, FixedChoice
from router_models.evaluation.frontier import (
    LAMBDAS,
    Figures,
    Float64,
    Interval,
    Judge,
    bootstrap_weights,
    covered,
    route,
)
from router_models.evaluation.operating_point import (
    ALONE,
    AtWillingness,
    TaskDifference,
    at_willingness,
    by_task,
    point_at_price,
)
from router_models.evaluation.predictions import Predictions, judge_predictions
from router_models.statistics import select
from router_models.types import Evaluations, Float32, Prediction


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """What a router expects of some queries, and what it would choose by.

    Attributes:
        prediction: Quality and USD.
        scores: What it maximises, `quality - lambda * cost_usd`, in units of its own.
        lambdas: The points of its frontier, quality before cost.
    """

    prediction: Prediction
    scores: Prediction
    lambdas: Float64

    @classmethod
    def of(cls, prediction: Prediction) -> "Contender":
        """Choose by what is expected, as the routers of this package do."""
        return cls(prediction, prediction, LAMBDAS)

    def select(self, rows: NDArray[np.intp]) -> "Contender":
        """Keep the queries at `rows`."""
        return Contender(_select(self.prediction, rows), _select(self.scores, rows), self.lambdas)


def _select(prediction: Prediction, rows: NDArray[np.intp]) -> Prediction:
    return Prediction(prediction.quality[rows], prediction.cost_usd[rows])


@dataclass(frozen=True, slots=True)
class ModelAlone:
    """Mean cost per query and mean quality of a model that answers everything."""

    cost_usd: float
    quality: float


@dataclass(frozen=True, slots=True)
class BestSingle:
    """The model of the highest quality.

    Attributes:
        model: Its name.
        quality: Its mean.
        cost_usd: Its mean, per query.
        is_best: Share of the draws in which no other model is better.
        rivals: Models that are not clearly worse.
    """

    model: str
    quality: Interval
    cost_usd: Interval
    is_best: float
    rivals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Frontier:
    """Quality over cost of one router.

    Attributes:
        figures: On all queries; those of an area or a saving are NaN for a model alone.
        common_auc: With its interval.
        naiq: With its interval.
        cost_usd: Mean cost of each point, per query.
        quality: Mean quality of each point.
    """

    figures: Figures
    common_auc: Interval
    naiq: Interval
    cost_usd: tuple[float, ...]
    quality: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FrontierReport:
    """What takes queries that every model answered.

    Attributes:
        queries: How many there are.
        models: Mean cost and quality of each alone.
        best_single: With its rivals.
        frontiers: By name: routers, baselines and references.
        differences: Of each router from everything else.
        at_willingness: What everything reaches at the willingness to pay that was asked for.
        tasks: Of each router, at that point, or else at the best single model's cost.
        fixed_choice: What each router is worth in USD beside the model that is best alone for
            callers who pay that much, or else `BALANCED_USD`.
    """

    queries: int
    models: Mapping[str, ModelAlone]
    best_single: BestSingle
    frontiers: Mapping[str, Frontier]
    differences: Mapping[str, tuple[Difference, ...]]
    at_willingness: tuple[AtWillingness, ...]
    tasks: Mapping[str, tuple[TaskDifference, ...]]
    fixed_choice: Mapping[str, FixedChoice]


@dataclass(frozen=True, slots=True)
class Report:
    """What one table says about some routers.

    Attributes:
        queries: That at least one model answered.
        answers: To them.
        models: That were compared.
        predictions: By name: routers and baselines.
        frontier: None where the models did not answer the same queries.
    """

    queries: int
    answers: int
    models: tuple[str, ...]
    predictions: Mapping[str, Predictions]
    frontier: FrontierReport | None


BEST_SINGLE, CHEAPEST, ORACLE, RANDOM_MIX = "best single", "cheapest", "oracle", "random mix"
BALANCED_USD = 0.02
"""USD per unit of quality that the built-in profile `balanced` pays."""
REFERENCES = frozenset({BEST_SINGLE, CHEAPEST, ORACLE, RANDOM_MIX})
"""Frontiers that no router makes."""


def evaluate(
    routers: Mapping[str, Contender],
    baselines: Mapping[str, Contender],
    truth: Evaluations,
    mean_quality: Float32,
    *,
    draws: int,
    rng: np.random.Generator,
    willingness_to_pay_usd: float | None = None,
) -> Report:
    """Measure routers on what models really answered, beside baselines.

    Args:
        routers: Those in question, by name; they predict all queries and models of `truth`.
        baselines: What they are compared with.
        truth: What the models answered.
        mean_quality: Of each model on other queries.
        draws: Of the bootstrap; without any, there are no intervals.
        rng: Draws the queries, the same ones for everything that is compared.
        willingness_to_pay_usd: An operating point to compare at, USD per unit of quality.
    """
    contenders = {**routers, **baselines}
    weights = with_all_queries(bootstrap_weights(len(truth.quality), draws, rng))
    predictions = judge_predictions(
        {name: each.prediction for name, each in contenders.items()}, truth, mean_quality, weights
    )
    rows, columns = covered(truth)
    frontier = None
    if len(columns) == len(truth.models):
        frontier = _frontier_report(
            {name: each.select(rows) for name, each in contenders.items()},
            tuple(routers),
            select(truth, rows),
            with_all_queries(bootstrap_weights(len(rows), draws, rng)),
            willingness_to_pay_usd,
        )
    answers = int(np.isfinite(truth.quality).sum())
    return Report(len(truth.quality), answers, truth.models, predictions, frontier)


def _frontier_report(
    contenders: Mapping[str, Contender],
    routers: tuple[str, ...],
    truth: Evaluations,
    weights: Float64,
    paid_usd: float | None,
) -> FrontierReport:
    judge = Judge.of(truth)
    cost, quality = judge.single_models.points()
    best, cheapest = judge.best_single(), int(np.argmin(cost))
    outcomes = {
        BEST_SINGLE: judge.single(best),
        CHEAPEST: judge.single(cheapest),
        ORACLE: judge.oracle,
        RANDOM_MIX: judge.mix(),
    } | {name: route(each.scores, truth, each.lambdas) for name, each in contenders.items()}
    drawn = {name: Drawn.of(judge, each, weights) for name, each in outcomes.items()}
    references = [name for name in outcomes if name not in {CHEAPEST, ORACLE}]
    predictions = {name: each.prediction for name, each in contenders.items()}
    tasks = {}
    for name in routers:
        if paid_usd is None:
            point = point_at_price(outcomes[name], float(cost[best]))
            chosen = outcomes[name].at(point)
        else:
            chosen = route(predictions[name], truth, np.array([1.0 / paid_usd]))
        tasks[name] = by_task(chosen, judge.single(best), truth.tasks, weights)
    return FrontierReport(
        queries=len(truth.quality),
        models={
            model: ModelAlone(float(cost[i]), float(quality[i]))
            for i, model in enumerate(truth.models)
        },
        best_single=_best_single(judge, truth.models, weights),
        frontiers={
            name: _frontier(judge.figures(each), drawn[name]) for name, each in outcomes.items()
        },
        differences={
            router: tuple(
                compare(drawn[router], drawn[name], name, is_model=name == BEST_SINGLE)
                for name in references
                if name != router
            )
            for router in routers
        },
        at_willingness=()
        if paid_usd is None
        else at_willingness(predictions, routers, truth, paid_usd, weights),
        tasks=tasks,
        fixed_choice={
            router: _fixed_choice(router, predictions[router], truth, weights, paid_usd)
            for router in routers
        },
    )


def _fixed_choice(
    router: str,
    prediction: Prediction,
    truth: Evaluations,
    weights: Float64,
    paid_usd: float | None,
) -> FixedChoice:
    paid_usd = paid_usd or BALANCED_USD
    found = at_willingness({router: prediction}, (router,), truth, paid_usd, weights)
    _, single, _ = found  # the router, the best single model, the oracle
    gain, unit = single.under[router], TURNS * paid_usd
    in_money = Interval(unit * gain.value, unit * gain.low, unit * gain.high)
    return FixedChoice(single.name.removesuffix(ALONE), paid_usd, in_money)


def _frontier(figures: Figures, drawn: Drawn) -> Frontier:
    if len(drawn.cost) == 1:
        # One point has no range to have an area over: the common one ends where it begins.
        none = Interval(np.nan, np.nan, np.nan)
        alone = Figures(
            **dict.fromkeys(
                ("own_range_auc", "common_auc", "saved", "saved_at_99", "naiq"), np.nan
            ),
            quality_first=figures.quality_first,
            cost_first_usd=figures.cost_first_usd,
            best_quality=figures.best_quality,
        )
        cost, quality = (float(each[0, 0]) for each in (drawn.cost, drawn.quality))
        return Frontier(alone, none, none, (cost,), (quality,))
    return Frontier(
        figures,
        spread(drawn.area),
        spread(drawn.naiq),
        tuple(drawn.cost[:, 0].tolist()),
        tuple(drawn.quality[:, 0].tolist()),
    )


def _best_single(judge: Judge, models: tuple[str, ...], weights: Float64) -> BestSingle:
    best = judge.best_single()
    cost, quality = judge.single_models.points(weights.T)
    over = {model: spread(quality[best] - quality[i]) for i, model in enumerate(models)}
    return BestSingle(
        model=models[best],
        quality=spread(quality[best]),
        cost_usd=spread(cost[best]),
        is_best=float((quality[best] >= quality.max(axis=0)).mean()),
        rivals=tuple(
            name for name, by in over.items() if name != models[best] and not is_above(by)
        ),
    )
