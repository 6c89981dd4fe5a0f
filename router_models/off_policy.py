"""What a router would have been worth on traffic that another one routed.

Each logged answer comes with the odds that its model was drawn. Answers that the new router would
have asked for too are weighed by one over those odds; a plain guess per model fills in the rest.
Doubly robust: Dudík, Langford, Li, "Doubly Robust Policy Evaluation and Learning" (ICML 2011,
arXiv 1103.4601), equation 2. SNIPS: Swaminathan and Joachims (NeurIPS 2015), equation 6.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models.types import Float32, Prediction

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LoggedChoices:
    """Answers whose model was drawn at random among several.

    Attributes:
        embeddings: Of the queries; shape ``(n_rows, dimension)``.
        answered: Column of the model that answered; shape ``(n_rows,)``.
        quality: Of that answer; same shape.
        cost_usd: Of that answer; same shape.
        propensity: Odds of each model, 0 where it was not offered; shape ``(n_rows, n_models)``.
        models: Names of the columns.
        query: Which rows are the same query, asked again; shape ``(n_rows,)``.
    """

    embeddings: Float32
    answered: NDArray[np.intp]
    quality: Float32
    cost_usd: Float32
    propensity: Float32
    models: tuple[str, ...]
    query: NDArray[np.intp]

    def at(self, rows: NDArray[Any]) -> "LoggedChoices":
        """Keep the answers at `rows`, places or a mask."""
        return LoggedChoices(
            self.embeddings[rows],
            self.answered[rows],
            self.quality[rows],
            self.cost_usd[rows],
            self.propensity[rows],
            self.models,
            self.query[rows],
        )


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """What choosing by one prediction is worth at one price.

    Attributes:
        doubly_robust: Estimate of each row's utility; shape ``(n_rows,)``; its mean is the value.
        snips: The same value from the matching answers alone.
        effective_rows: How many equally weighted answers the matching ones are worth.
    """

    doubly_robust: Float64
    snips: float
    effective_rows: float


def policy_value(
    prediction: Prediction, choices: LoggedChoices, guess: Prediction, price: float
) -> PolicyValue:
    """Estimate the utility, quality - price * cost, of choosing by `prediction`.

    Args:
        prediction: Quality -inf marks a model that the router does not know; every row has one
            that was offered and that it knows.
        choices: What really happened.
        guess: What to expect of each model where the log is silent; made without these rows. A bad
            guess widens the estimate and does not bend it.
        price: Quality given up per USD saved.
    """
    rows = np.arange(len(choices.answered))
    offered = choices.propensity > 0
    wanted = prediction.quality - price * prediction.cost_usd
    chosen = np.argmax(np.where(offered, wanted, -np.inf), axis=1)
    got = (choices.quality - price * choices.cost_usd).astype(np.float64)
    guessed = (guess.quality - price * guess.cost_usd).astype(np.float64)
    odds = choices.propensity[rows, choices.answered].astype(np.float64)
    weight = np.where(chosen == choices.answered, 1.0 / odds, 0.0)
    total = weight.sum()
    return PolicyValue(
        guessed[rows, chosen] + weight * (got - guessed[rows, choices.answered]),
        float(weight @ got / total) if total else float("nan"),
        float(total**2 / (weight @ weight)) if total else 0.0,
    )
