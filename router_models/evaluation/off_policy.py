"""Off-policy evaluation: the value of a router on traffic that another one routed.

Each logged answer comes with its propensity, the probability that its model was drawn. Answers that
the new router would have asked for too are weighed by one over it; an outcome model fills in the
rest.
Doubly robust: Dudík, Langford, Li, "Doubly Robust Policy Evaluation and Learning" (ICML 2011,
arXiv 1103.4601), equation 2. SNIPS: Swaminathan and Joachims (NeurIPS 2015), equation 6.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models.artifacts.router import Router
from router_models.pricing import Prompts, in_usd
from router_models.statistics import model_means
from router_models.types import Evaluations, Float32, Prediction

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LoggedChoices:
    """Answers whose model was drawn at random among several.

    Attributes:
        embeddings: Of the queries; shape ``(n_rows, dimension)``.
        answered: Column of the model that answered; shape ``(n_rows,)``.
        quality: Of that answer; same shape.
        cost_usd: Of that answer; same shape.
        propensity: Probability of each model, 0 where it was not offered; shape
            ``(n_rows, n_models)``.
        models: Names of the columns.
        query: Which rows are the same query, asked again; shape ``(n_rows,)``.
        prompts: What the models charge for them; None where tokens were not counted.
        could_answer: Models that were offered, with a chance or without; same shape as
            `propensity`. None where all that were offered had one.
    """

    embeddings: Float32
    answered: NDArray[np.intp]
    quality: Float32
    cost_usd: Float32
    propensity: Float32
    models: tuple[str, ...]
    query: NDArray[np.intp]
    prompts: Prompts | None = None
    could_answer: NDArray[np.bool_] | None = None

    @property
    def offered(self) -> NDArray[np.bool_]:
        """Models that a router may choose; shape ``(n_rows, n_models)``."""
        return self.propensity > 0 if self.could_answer is None else self.could_answer

    def select(self, rows: NDArray[Any]) -> "LoggedChoices":
        """Keep the answers at `rows`, places or a mask."""
        return LoggedChoices(
            self.embeddings[rows],
            self.answered[rows],
            self.quality[rows],
            self.cost_usd[rows],
            self.propensity[rows],
            self.models,
            self.query[rows],
            self.prompts and self.prompts.select(rows),
            None if self.could_answer is None else self.could_answer[rows],
        )


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """The estimated value of choosing by one prediction at one price.

    Attributes:
        quality: Doubly robust estimate for each row; shape ``(n_rows,)``; its mean is the value.
        cost_usd: The same of the cost.
        price: Quality given up per USD saved.
        snips: Utility by the matching answers alone.
        effective_rows: `effective_answers`.
    """

    quality: Float64
    cost_usd: Float64
    price: float
    snips: float
    effective_rows: float

    @property
    def doubly_robust(self) -> Float64:
        """Estimate of each row's utility, quality - price * cost."""
        return self.quality - self.price * self.cost_usd


def choose(prediction: Prediction, choices: LoggedChoices, price: float) -> NDArray[np.intp]:
    """Return what `prediction` would have chosen for each row, among what was offered."""
    if not choices.models:
        return np.zeros(len(choices.answered), np.intp)  # there is no row either
    utility = prediction.quality - price * prediction.cost_usd
    chosen: NDArray[np.intp] = np.where(choices.offered, utility, -np.inf).argmax(axis=1)
    return chosen


def policy_value(
    prediction: Prediction, choices: LoggedChoices, outcome_model: Prediction, price: float
) -> PolicyValue:
    """Estimate the value of choosing by `prediction`.

    Args:
        prediction: Quality -inf marks a model that the router does not know; every row has one
            that was offered and that it knows.
        choices: What really happened.
        outcome_model: What to expect of each model where the log is silent; made without these
            rows. A bad one adds variance to the estimate, and no bias.
        price: Quality given up per USD saved.
    """
    rows = np.arange(len(choices.answered))
    chosen = choose(prediction, choices, price)
    propensity = choices.propensity[rows, choices.answered].astype(np.float64)
    weight = np.where(chosen == choices.answered, 1.0 / propensity, 0.0)

    def corrected(observed: Float32, modelled: Float32) -> Float64:
        residual = observed.astype(np.float64) - modelled[rows, choices.answered]
        value: Float64 = modelled[rows, chosen] + weight * residual
        return value

    total = weight.sum()
    got = (choices.quality - price * choices.cost_usd).astype(np.float64)
    return PolicyValue(
        corrected(choices.quality, outcome_model.quality),
        corrected(choices.cost_usd, outcome_model.cost_usd),
        price,
        float(weight @ got / total) if total else float("nan"),
        effective_answers(chosen, choices),
    )


def effective_answers(chosen: NDArray[np.intp], choices: LoggedChoices) -> float:
    """Return to how many answers to distinct queries, each of the chosen model, a log is equal.

    Of no answers, to none.

    By what could have matched, not by what did: otherwise the count would depend on the very
    answers that the estimate is made of. Where what is chosen had no chance, none could.

    Args:
        chosen: What a router would choose; shape ``(n_rows,)``.
        choices: What really happened.
    """
    propensity = choices.propensity[np.arange(len(chosen)), chosen].astype(np.float64)
    could_match = propensity > 0
    if not could_match.any():
        return 0.0
    weight = 1.0 / propensity[could_match]
    size = np.bincount(choices.query[could_match])
    return len(weight) ** 2 / float(weight.sum() + (size * (size - 1.0)).sum())


def constant_outcome_model(prior: Evaluations, rows: int) -> Prediction:
    """Predict each model's mean over `prior`, the same for all queries and for all routers."""
    if not np.isfinite(prior.quality).any():
        nothing = np.zeros((rows, len(prior.models)), np.float32)
        return Prediction(nothing, nothing)
    quality, cost = model_means(prior)
    shape = (rows, len(prior.models))
    return Prediction(np.broadcast_to(quality, shape), np.broadcast_to(cost, shape))


def known_models(router: Router, models: Sequence[str]) -> NDArray[np.bool_]:
    """Which of `models` the router predicts; shape ``(n_models,)``."""
    return np.array([router.column(model) is not None for model in models], bool)


def predict_columns(
    router: Router, embeddings: Float32, models: Sequence[str], prompts: Prompts | None
) -> Prediction:
    """Predict for these names of models; quality -inf marks one that the router does not know.

    Args:
        router: Whatever unit it predicts in.
        embeddings: Of the queries.
        models: Names of the columns of the prediction.
        prompts: What `models` charge for them; None where tokens were not counted.

    Raises:
        InvalidEvaluations: The router predicts tokens, and nobody counted those of the prompts.
    """
    prediction = router.serving_estimator.predict(embeddings)
    columns = [router.column(model) for model in models]
    known = [place for place, column in enumerate(columns) if column is not None]
    shape = (len(embeddings), len(models))
    quality, cost = np.full(shape, -np.inf, np.float32), np.zeros(shape, np.float32)
    quality[:, known] = prediction.quality[:, [c for c in columns if c is not None]]
    cost[:, known] = prediction.cost_usd[:, [c for c in columns if c is not None]]
    return in_usd(Prediction(quality, cost), router.unit, prompts)
