"""Quality over cost of routers that did not serve, with intervals, out of the log of one that did.

Every point is a doubly robust estimate (`off_policy`); its interval is a bootstrap over queries.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from router_models.artifacts.router import Router
from router_models.errors import InvalidEvaluations
from router_models.evaluation.frontier import Interval, bootstrap_weights, interval
from router_models.evaluation.off_policy import (
    LoggedChoices,
    PolicyValue,
    constant_outcome_model,
    known_models,
    policy_value,
    predict_columns,
)
from router_models.types import Evaluations, Prediction

Role = Literal["current", "candidate", "best_single"]

DRAWS: Final = 500
LEAST_EFFECTIVE_ANSWERS: Final = 20.0
"""A point that rests on fewer is left out: the bootstrap of a handful of answers says nothing."""


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """What choosing by a router is worth to callers who pay this much.

    Attributes:
        willingness_to_pay_usd: USD per unit of quality.
        quality: Mean per query, 0 to 1.
        cost_usd: Mean per query.
        effective_answers: How many equally weighted answers the estimate rests on.
    """

    willingness_to_pay_usd: float
    quality: Interval
    cost_usd: Interval
    effective_answers: float


@dataclass(frozen=True, slots=True)
class FrontierCurve:
    """One router at all operating points; `version` of the best single model is its name."""

    version: str
    role: Role
    points: tuple[FrontierPoint, ...]


@dataclass(frozen=True, slots=True)
class LoggedFrontier:
    """All curves measured on the same answers.

    Attributes:
        answers: Held-out answers whose model was drawn at random.
        queries: Of them distinct.
        measured_at: With a time zone.
    """

    curves: tuple[FrontierCurve, ...]
    answers: int
    queries: int
    measured_at: datetime

    def to_json(self) -> str:
        """Write the curves as a JSON object of one entry per field."""
        table = {**asdict(self), "measured_at": self.measured_at.astimezone(UTC).isoformat()}
        return json.dumps(table, indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "LoggedFrontier":
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is something else.
        """
        try:
            table = json.loads(text)
            return cls(
                tuple(_curve(curve) for curve in table["curves"]),
                int(table["answers"]),
                int(table["queries"]),
                datetime.fromisoformat(table["measured_at"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError("not a frontier measured on a log") from error


def measure_frontier(
    routers: Mapping[Role, Router],
    choices: LoggedChoices,
    prior: Evaluations,
    willingness_to_pay_usd: Sequence[float],
    *,
    rng: np.random.Generator,
    now: datetime,
    draws: int = DRAWS,
) -> LoggedFrontier:
    """Measure routers, and the best single model of the log, on answers drawn at random.

    Args:
        routers: By role.
        choices: Answers that none of the routers was trained on.
        prior: Other rows, for a plain outcome_model per model.
        willingness_to_pay_usd: The operating points.
        rng: Draws the bootstrap, the same draws for every curve.
        now: Time of the measurement.
        draws: Of the bootstrap.

    Raises:
        InvalidEvaluations: There is no answer to measure all of them on.
    """
    usable = np.ones(len(choices.answered), bool)
    for router in routers.values():
        known = known_models(router, choices.models)
        usable &= (choices.propensity[:, known] > 0).any(axis=1)
    if not usable.any():
        raise InvalidEvaluations(
            "the log has no graded answer in its test split whose model was drawn at random among "
            "several that these routers know; see routing.exploration"
        )
    choices = choices.select(usable)
    outcome_model = constant_outcome_model(prior, len(choices.answered))
    intervals = _Intervals.draw(choices, draws, rng)
    curves = [
        FrontierCurve(router.version, role, intervals.points(values))
        for role, router in routers.items()
        for values in [_values(router, choices, outcome_model, willingness_to_pay_usd)]
    ]
    singles = dict(_singles(choices, outcome_model))
    best = max(singles, key=lambda name: float(singles[name].quality.mean()))
    lone = intervals.points({max(willingness_to_pay_usd): singles[best]})
    curves.append(FrontierCurve(best, "best_single", lone))
    queries = len(np.unique(choices.query))
    return LoggedFrontier(tuple(curves), len(choices.answered), queries, now)


def _values(
    router: Router, choices: LoggedChoices, outcome_model: Prediction, paid_usd: Sequence[float]
) -> dict[float, PolicyValue]:
    wanted = predict_columns(router, choices.embeddings, choices.models)
    return {paid: policy_value(wanted, choices, outcome_model, 1.0 / paid) for paid in paid_usd}


def _singles(
    choices: LoggedChoices, outcome_model: Prediction
) -> Iterator[tuple[str, PolicyValue]]:
    """Value each model alone; where it was not offered, the best of the others on average."""
    for column, model in enumerate(choices.models):
        quality = np.array(outcome_model.quality)
        quality[:, column] = np.inf
        always = Prediction(quality, outcome_model.cost_usd)
        yield model, policy_value(always, choices, outcome_model, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Intervals:
    """Bootstrap draws over queries; the answers to one query are drawn together.

    Attributes:
        query: Place of its query for each answer.
        weights: Of the queries; shape ``(draws, n_queries)``.
        answers: Of each draw, as a share; shape ``(draws,)``.
    """

    query: NDArray[np.intp]
    weights: NDArray[np.float64]
    answers: NDArray[np.float64]

    @classmethod
    def draw(cls, choices: LoggedChoices, draws: int, rng: np.random.Generator) -> "_Intervals":
        _, query, rows = np.unique(choices.query, return_inverse=True, return_counts=True)
        weights = bootstrap_weights(len(rows), draws, rng)
        return cls(query, weights, weights @ rows)

    def points(self, values: Mapping[float, PolicyValue]) -> tuple[FrontierPoint, ...]:
        return tuple(
            FrontierPoint(paid, self._of(v.quality), self._of(v.cost_usd), v.effective_rows)
            for paid, v in values.items()
            if v.effective_rows >= LEAST_EFFECTIVE_ANSWERS
        )

    def _of(self, rows: NDArray[np.float64]) -> Interval:
        drawn = (self.weights @ np.bincount(self.query, rows)) / self.answers
        return interval(float(rows.mean()), drawn)


def _curve(table: Mapping[str, Any]) -> FrontierCurve:
    points = tuple(
        FrontierPoint(
            float(point["willingness_to_pay_usd"]),
            Interval(**point["quality"]),
            Interval(**point["cost_usd"]),
            float(point["effective_answers"]),
        )
        for point in table["points"]
    )
    if table["role"] not in get_args(Role):
        raise ValueError(f"{table['role']!r} is no role of a router")
    return FrontierCurve(str(table["version"]), table["role"], points)
