"""What routing gains over always asking one model, in money: whether it is worth it at all."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from router_models.artifacts.router import Router
from router_models.evaluation.design_variance import Shares, reach, weighed
from router_models.evaluation.frontier import Interval
from router_models.evaluation.logged_frontier import LEAST_EFFECTIVE_ANSWERS, LEAST_OFFERED
from router_models.evaluation.off_policy import (
    LoggedChoices,
    choose,
    effective_answers,
    known_models,
    predict_columns,
)
from router_models.evaluation.outcome_model import fit_outcome_model, guess_outcomes
from router_models.statistics import model_means
from router_models.types import Evaluations, Prediction

TURNS: Final = 1000


@dataclass(frozen=True, slots=True)
class FixedChoice:
    """The model that is best alone, and what routing is worth beside it.

    Attributes:
        model: Best on the rows that the router learned from.
        willingness_to_pay_usd: USD per unit of quality.
        gain_usd: Of routing over `model`, per 1,000 turns: quality at that price, less cost.
    """

    model: str
    willingness_to_pay_usd: float
    gain_usd: Interval

    @property
    def is_enough(self) -> bool:
        """Whether `model` alone does as well as routing, as far as is known."""
        return self.gain_usd.low <= 0.0

    def __str__(self) -> str:
        return sentence(self.model, self.gain_usd, self.willingness_to_pay_usd)


def sentence(model: str, gain_usd: Interval, willingness_to_pay_usd: float) -> str:
    """Say in money what routing is worth beside one model."""
    found = (
        f"{gain_usd.value:+.4g} [{gain_usd.low:+.4g}, {gain_usd.high:+.4g}] USD per 1,000 turns to "
        f"callers who pay {willingness_to_pay_usd:g} USD per unit of quality"
    )
    if gain_usd.low > 0.0:
        return f"Routing is worth more than {model} alone: {found}."
    if gain_usd.high < 0.0:
        return f"Routing is worth less than {model} alone: {found}."
    return f"{model} alone does as well as routing, as far as these rows tell: {found}."


def beside_fixed_choice(
    router: Router, choices: LoggedChoices, prior: Evaluations, willingness_to_pay_usd: float
) -> FixedChoice | None:
    """Compare a router with the best single model, on answers drawn at random.

    Args:
        router: What is in question.
        choices: Answers that it was not trained on.
        prior: What it was trained on, where the single model is chosen.
        willingness_to_pay_usd: USD per unit of quality.

    Returns:
        None where too few answers were drawn at random to say anything.
    """
    price, known = 1.0 / willingness_to_pay_usd, known_models(router, choices.models)
    choices = choices.select(np.flatnonzero((choices.propensity[:, known] > 0).any(axis=1)))
    if not len(choices.answered) or not np.isfinite(prior.quality).any():
        return None
    quality, cost = model_means(prior)
    is_single = (choices.propensity > 0).mean(axis=0) >= LEAST_OFFERED
    worth = np.where(is_single, quality - price * cost, -np.inf)
    best = int(np.argmax(worth))
    wanted = predict_columns(router, choices.embeddings, choices.models, choices.prompts)
    guess = guess_outcomes([router], choices, prior)
    alone = np.array(guess.quality)
    alone[:, best] = np.inf  # where it was not offered, what is expected to be best
    chosen = (
        choose(wanted, choices, price),
        choose(Prediction(alone, guess.cost_usd), choices, price),
    )
    effective = min(effective_answers(each, choices) for each in chosen)
    if effective < LEAST_EFFECTIVE_ANSWERS:
        return None
    outcomes, prices = fit_outcome_model(guess, choices), np.array([price])
    routed, single = (Shares.of([each], prices, np.ones(1), choices) for each in chosen)
    found = weighed(outcomes, routed.minus(single), choices)
    _, query = np.unique(choices.query, return_inverse=True)
    margin = reach(effective) * found.standard_error(query, outcomes.persistence)
    gain, unit = float(found.value.mean()), TURNS * willingness_to_pay_usd
    interval = Interval(unit * gain, unit * (gain - margin), unit * (gain + margin))
    return FixedChoice(choices.models[best], willingness_to_pay_usd, interval)
