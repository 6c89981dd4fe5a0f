"""One point of a frontier: by willingness to pay, and task by task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from router_models.evaluation.comparison import spread
from router_models.evaluation.frontier import Float64, Interval, Judge, Outcomes, route
from router_models.types import Evaluations, Prediction

LEAST_QUERIES = 20
"""A task of fewer is counted among the others: an interval from so few would say too much."""

OTHERS = "(smaller tasks)"
ALONE = " alone"
"""Behind the name of a model that answers everything."""


@dataclass(frozen=True, slots=True)
class AtWillingness:
    """What is reached at one willingness to pay.

    Attributes:
        name: Of the router, baseline or model.
        quality: Mean.
        cost_usd: Mean per query.
        utility: Mean of quality - cost / willingness to pay.
        under: By router: its utility less this one's.
    """

    name: str
    quality: float
    cost_usd: float
    utility: float
    under: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class TaskDifference:
    """A router beside the best single model on the queries of one task.

    Attributes:
        task: Its label.
        queries: How many there are.
        quality: Mean of the router.
        cost_usd: Mean of the router, per query.
        single_quality: Mean of the best single model.
        single_cost_usd: Mean of the best single model, per query.
        difference: Quality of the router less that of the model.
    """

    task: str
    queries: int
    quality: float
    cost_usd: float
    single_quality: float
    single_cost_usd: float
    difference: Interval


def point_at_price(outcomes: Outcomes, limit_usd: float) -> int:
    """Find the point of highest quality that costs no more than `limit_usd`, else the cheapest."""
    cost, quality = outcomes.points()
    affordable = cost <= max(limit_usd, cost.min()) * (1.0 + 1e-9)
    return int(np.argmax(np.where(affordable, quality, -np.inf)))


def at_willingness(
    predictions: Mapping[str, Prediction],
    routers: Sequence[str],
    truth: Evaluations,
    willingness_to_pay_usd: float,
    weights: Float64,
) -> tuple[AtWillingness, ...]:
    """Compare `routers`, which are among `predictions`, with all others at one price.

    Args:
        predictions: By name, of the queries of `truth`.
        routers: Names of those in question.
        truth: Every model answered every query.
        willingness_to_pay_usd: USD per unit of quality.
        weights: Draws of the queries, all of them first.
    """
    price = np.array([1.0 / willingness_to_pay_usd])
    judge = Judge.of(truth, price)
    worth = judge.single_models.quality - price * judge.single_models.cost_usd
    best = int(np.argmax(worth.mean(axis=1)))
    chosen = {name: route(prediction, truth, price) for name, prediction in predictions.items()}
    chosen[f"{truth.models[best]}{ALONE}"] = judge.single(best)
    chosen["oracle"] = judge.oracle
    utility = {name: (o.quality - price * o.cost_usd)[0] for name, o in chosen.items()}
    return tuple(
        AtWillingness(
            name,
            float(outcomes.quality.mean()),
            float(outcomes.cost_usd.mean()),
            float(utility[name].mean()),
            {
                router: spread(weights @ (utility[router] - utility[name]))
                for router in routers
                if router != name
            },
        )
        for name, outcomes in chosen.items()
    )


def by_task(
    chosen: Outcomes, single: Outcomes, tasks: Sequence[str], weights: Float64
) -> tuple[TaskDifference, ...]:
    """Compare task by task, the largest first; small ones together.

    Args:
        chosen: One point of a router.
        single: The best single model.
        tasks: Label of each query.
        weights: Draws of the queries, all of them first.
    """
    names, place, queries = np.unique(np.array(tasks), return_inverse=True, return_counts=True)
    labels = np.where(queries[place] >= LEAST_QUERIES, names[place], OTHERS)
    names, queries = np.unique(labels, return_counts=True)
    order = sorted(range(len(names)), key=lambda i: (names[i] == OTHERS, -queries[i], names[i]))
    difference = chosen.quality[0] - single.quality[0]
    found = []
    for index in order:
        inside = labels == names[index]
        drawn = weights[:, inside]
        # A draw may leave a small task without a query; there its difference counts as none.
        shares = drawn / np.maximum(drawn.sum(axis=1, keepdims=True), 1e-12)
        quality, cost, single_quality, single_cost = (
            float(each[0, inside].mean())
            for each in (chosen.quality, chosen.cost_usd, single.quality, single.cost_usd)
        )
        found.append(
            TaskDifference(
                task=str(names[index]),
                queries=int(queries[index]),
                quality=quality,
                cost_usd=cost,
                single_quality=single_quality,
                single_cost_usd=single_cost,
                difference=spread(shares @ difference[inside]),
            )
        )
    return tuple(found)
