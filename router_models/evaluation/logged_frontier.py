"""Quality over cost of routers that did not serve, with intervals, out of the log of one that did.

Every point is a doubly robust estimate (`off_policy`) whose guess is what the routers predict
(`outcome_model`); its interval comes from the design of the log (`design_variance`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import combinations
from math import exp
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from router_models.artifacts.router import Router
from router_models.errors import InvalidEvaluations
from router_models.evaluation.design_variance import Contributions, contributions, reach
from router_models.evaluation.frontier import Interval
from router_models.evaluation.off_policy import (
    LoggedChoices,
    choose,
    effective_answers,
    known_models,
    predict_columns,
)
from router_models.evaluation.outcome_model import (
    OutcomeModel,
    fit_outcome_model,
    guess_outcomes,
)
from router_models.types import Evaluations, Prediction

Columns = NDArray[np.intp]
"""What is chosen for each row, as a place among the models."""

Role = Literal["current", "candidate", "best_single"]

LEAST_EFFECTIVE_ANSWERS: Final = 30.0
"""A point that rests on fewer is left out: no interval is right for a handful of answers."""
LEAST_OFFERED: Final = 0.5
"""Of the answers: a model that was offered for fewer is no single model to compare with."""


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """What choosing by a router is worth to callers who pay this much.

    Attributes:
        willingness_to_pay_usd: USD per unit of quality.
        quality: Mean per query, 0 to 1.
        cost_usd: Mean per query.
        effective_answers: How many answers of its own the estimate is worth, by the propensities.
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
class Lead:
    """How far the best single model seems ahead of its closest rival.

    Attributes:
        quality: Difference of mean quality; holds for the rival that comes closest.
    """

    model: str
    rival: str
    quality: Interval

    @property
    def is_decided(self) -> bool:
        """The log tells which of the two is better."""
        return self.quality.low > 0.0


@dataclass(frozen=True, slots=True)
class LoggedFrontier:
    """All curves measured on the same answers.

    Attributes:
        curves: That of the best single model is among them where its lead is decided.
        answers: Held-out answers whose model was drawn at random.
        queries: Of them distinct.
        measured_at: With a time zone.
        lead: None where there are no two single models to compare.
        is_anytime: The intervals of all looks at the growing log hold together.
    """

    curves: tuple[FrontierCurve, ...]
    answers: int
    queries: int
    measured_at: datetime
    lead: Lead | None = None
    is_anytime: bool = False

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
            lead = table.get("lead")
            return cls(
                tuple(_curve(curve) for curve in table["curves"]),
                int(table["answers"]),
                int(table["queries"]),
                datetime.fromisoformat(table["measured_at"]).astimezone(UTC),
                lead and Lead(lead["model"], lead["rival"], _interval(lead["quality"])),
                bool(table.get("is_anytime", False)),
            )
        except (AttributeError, KeyError, OverflowError, RecursionError, TypeError) as error:
            raise ValueError("not a frontier measured on a log") from error


def measure_frontier(
    routers: Mapping[Role, Router],
    choices: LoggedChoices,
    prior: Evaluations,
    willingness_to_pay_usd: Sequence[float],
    *,
    now: datetime,
    is_anytime: bool = False,
) -> LoggedFrontier:
    """Measure routers, and the best single model of the log, on answers drawn at random.

    Args:
        routers: By role.
        choices: Answers that none of the routers was trained on.
        prior: Other rows, for what to expect of models that no router knows.
        willingness_to_pay_usd: The operating points.
        now: Time of the measurement.
        is_anytime: Widen intervals so that those of all looks at the growing log hold together.

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
    guess = guess_outcomes(routers.values(), choices, prior)
    measure = Measurement(choices, fit_outcome_model(guess, choices), is_anytime)
    curves = []
    for role, router in routers.items():
        wanted = predict_columns(router, choices.embeddings, choices.models, choices.prompts)
        chosen = {paid: choose(wanted, choices, 1.0 / paid) for paid in willingness_to_pay_usd}
        curves.append(FrontierCurve(router.version, role, measure.points(chosen)))
    singles = dict(single_choices(choices, guess))
    lead = measure.lead(singles)
    if lead is not None and lead.is_decided:
        lone = measure.points({max(willingness_to_pay_usd): singles[lead.model]})
        curves.append(FrontierCurve(lead.model, "best_single", lone))
    queries = len(np.unique(choices.query))
    return LoggedFrontier(tuple(curves), len(choices.answered), queries, now, lead, is_anytime)


def single_choices(choices: LoggedChoices, guess: Prediction) -> Iterator[tuple[str, Columns]]:
    """Choose each model alone; where it was not offered, the one that is expected to be best."""
    offered = choices.propensity > 0
    for column in np.flatnonzero(offered.mean(axis=0) >= LEAST_OFFERED):
        quality = np.array(guess.quality)
        quality[:, column] = np.inf
        yield choices.models[column], choose(Prediction(quality, guess.cost_usd), choices, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """Estimates and intervals of what routers would have chosen, on the same answers."""

    choices: LoggedChoices
    outcomes: OutcomeModel
    is_anytime: bool

    def points(self, chosen: Mapping[float, Columns]) -> tuple[FrontierPoint, ...]:
        """Measure choices by what is paid for quality, where there are enough answers."""
        effective = {paid: effective_answers(each, self.choices) for paid, each in chosen.items()}
        return tuple(
            FrontierPoint(paid, *self._figures(each, effective[paid]), effective[paid])
            for paid, each in chosen.items()
            if effective[paid] >= LEAST_EFFECTIVE_ANSWERS
        )

    def lead(self, singles: Mapping[str, Columns]) -> Lead | None:
        """Find the model that is surest to be better than every other one."""
        effective = {name: effective_answers(each, self.choices) for name, each in singles.items()}
        found = {
            name: contributions(self.outcomes.quality, each, self.choices)
            for name, each in singles.items()
        }
        ahead: dict[str, dict[str, Interval]] = {name: {} for name in singles}
        for one, other in combinations(singles, 2):
            difference = found[one].minus(found[other], singles[one] != singles[other])
            value, margin = self._estimate(difference, min(effective[one], effective[other]))
            ahead[one][other] = Interval(value, value - margin, value + margin)
            ahead[other][one] = Interval(-value, -value - margin, margin - value)
        leads = [
            Lead(name, *min(rivals.items(), key=lambda rival: rival[1].low))
            for name, rivals in ahead.items()
            if rivals and effective[name] >= LEAST_EFFECTIVE_ANSWERS
        ]
        return max(leads, key=lambda lead: lead.quality.low, default=None)

    def _figures(self, chosen: Columns, effective: float) -> tuple[Interval, Interval]:
        """Estimate quality, between 0 and 1, and cost, whose errors are in proportion to it."""
        graded = contributions(self.outcomes.quality, chosen, self.choices)
        value, margin = self._estimate(graded, effective)
        quality = (min(max(bound, 0.0), 1.0) for bound in (value, value - margin, value + margin))
        charged = contributions(self.outcomes.cost_usd, chosen, self.choices)
        value, margin = self._estimate(charged, effective)
        if value <= margin:
            cost = Interval(max(value, 0.0), 0.0, max(value + margin, 0.0))
            return Interval(*quality), cost
        factor = exp(margin / value)
        return Interval(*quality), Interval(value, value / factor, value * factor)

    def _estimate(self, found: Contributions, effective: float) -> tuple[float, float]:
        """Return the estimate and how far its interval reaches to either side."""
        error = found.standard_error(self.choices.query, self.outcomes.persistence)
        looks = len(self.choices.answered) if self.is_anytime else None
        return float(found.value.mean()), reach(effective, looks) * error


def _curve(table: Mapping[str, Any]) -> FrontierCurve:
    points = tuple(
        FrontierPoint(
            float(point["willingness_to_pay_usd"]),
            _interval(point["quality"]),
            _interval(point["cost_usd"]),
            float(point["effective_answers"]),
        )
        for point in table["points"]
    )
    if table["role"] not in get_args(Role):
        raise ValueError(f"{table['role']!r} is no role of a router")
    return FrontierCurve(str(table["version"]), table["role"], points)


def _interval(table: Mapping[str, Any]) -> Interval:
    return Interval(float(table["value"]), float(table["low"]), float(table["high"]))
