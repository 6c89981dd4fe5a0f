"""What to expect of each model on each logged query, and how far answers lie from that.

The guess is what the measured routers predict, made without these answers. It is then moved towards
the log's own answers: those of other queries alone, so that no answer explains itself.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from router_models.artifacts.router import Router
from router_models.evaluation.off_policy import (
    LoggedChoices,
    constant_outcome_model,
    known_models,
    predict_columns,
)
from router_models.types import Evaluations, Float32, Prediction

Float64 = NDArray[np.float64]

PARTS: Final = 5
"""Of the queries: each is calibrated by the others."""
PRIOR_ANSWERS: Final = 20.0
"""A model's answers move its guess half of the way when there are as many."""
LEAST_DOUBT: Final = 0.02
"""Nothing is expected to be right, or wrong, with more certainty."""
LEAST_COST: Final = 1e-3
"""Of the log's mean cost: a model that is expected to cost nothing may cost something."""
_TINY: Final = 1e-300


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """One figure of logged answers: what was seen, and what was to be expected.

    Attributes:
        observed: Of the model that answered; shape ``(n_rows,)``.
        modelled: Of every model, made without the answer itself; shape ``(n_rows, n_models)``.
        squares: Expected squared difference of an answer from that; same shape.
    """

    observed: Float64
    modelled: Float64
    squares: Float64


@dataclass(frozen=True, slots=True, eq=False)
class OutcomeModel:
    """Quality and cost of logged answers, and how their surprises go together.

    Attributes:
        correlation: Between an answer's surprise in quality and in cost.
        persistence: Between the surprises of two answers of one model to one query.
    """

    quality: Outcome
    cost_usd: Outcome
    correlation: float
    persistence: float

    def utility(self, price: float) -> Outcome:
        """Return quality - price * cost."""
        quality, cost = self.quality, self.cost_usd
        both = np.sqrt(quality.squares * cost.squares)
        return Outcome(
            quality.observed - price * cost.observed,
            quality.modelled - price * cost.modelled,
            quality.squares + price**2 * cost.squares - 2.0 * price * self.correlation * both,
        )


def guess_outcomes(
    routers: Collection[Router], choices: LoggedChoices, prior: Evaluations
) -> Prediction:
    """Average what routers predict; a model that none knows is expected to do as in `prior`."""
    constant = constant_outcome_model(prior, len(choices.answered))
    quality, cost, knowing = np.zeros((3, *constant.quality.shape), np.float32)
    for router in routers:
        known = known_models(router, choices.models)
        found = predict_columns(router, choices.embeddings, choices.models, choices.prompts)
        quality += np.where(known, found.quality, 0.0)
        cost += np.where(known, found.cost_usd, 0.0)
        knowing += known
    share = np.maximum(knowing, 1.0)
    return Prediction(
        np.where(knowing > 0, quality / share, constant.quality),
        np.where(knowing > 0, cost / share, constant.cost_usd),
    )


def fit_outcome_model(guess: Prediction, choices: LoggedChoices) -> OutcomeModel:
    """Fit a guess to logged answers.

    Args:
        guess: Made without these answers; a wrong one widens intervals, and biases nothing.
        choices: The answers.
    """
    quality = _calibrate(np.maximum(guess.quality, LEAST_DOUBT), choices.quality, choices)
    quality = np.clip(quality, LEAST_DOUBT, 1.0 - LEAST_DOUBT)
    floor = LEAST_COST * choices.cost_usd.mean()
    cost = _calibrate(np.maximum(guess.cost_usd, floor), choices.cost_usd, choices)
    # A grade is spread as the toss of a coin is, a cost in proportion to itself.
    graded = _outcome(choices.quality, quality, quality * (1.0 - quality), choices)
    charged = _outcome(choices.cost_usd, cost, cost * cost, choices)
    surprise, other = _surprises(graded, choices), _surprises(charged, choices)
    correlation = float(np.clip((surprise * other).mean(), -1.0, 1.0))
    return OutcomeModel(graded, charged, correlation, _persistence(surprise, choices))


def _calibrate(guess: NDArray[Any], observed: Float32, choices: LoggedChoices) -> Float64:
    """Move the guess for one part of the queries after another by the answers to the others."""
    moved = guess.astype(np.float64)
    guessed = _of_answers(moved, choices)
    _, place = np.unique(choices.query, return_inverse=True)
    part = place % PARTS
    for held_out in range(PARTS):
        learned = part != held_out
        ratios = _ratios(
            observed[learned], guessed[learned], choices.answered[learned], len(choices.models)
        )
        moved[~learned] *= ratios
    return moved


def _outcome(
    observed: Float32, modelled: Float64, spread: Float64, choices: LoggedChoices
) -> Outcome:
    """Scale the spread until it is, on average, that of each model's answers."""
    seen = (observed - _of_answers(modelled, choices)) ** 2
    expected = _of_answers(spread, choices)
    ratios = _ratios(seen, expected, choices.answered, len(choices.models))
    return Outcome(observed.astype(np.float64), modelled, spread * ratios)


def _ratios(
    seen: NDArray[Any], expected: Float64, answered: NDArray[np.intp], n_models: int
) -> Float64:
    """Divide sums by what was expected of them, per model; few answers are pulled to all."""
    pull = PRIOR_ANSWERS * float(expected.mean()) if len(expected) else 0.0
    of_all = float(seen.sum()) / max(float(expected.sum()), _TINY)
    sums = np.bincount(answered, seen, n_models) + pull * of_all
    ratios: Float64 = sums / np.maximum(np.bincount(answered, expected, n_models) + pull, _TINY)
    return ratios


def _of_answers(table: Float64, choices: LoggedChoices) -> Float64:
    column: Float64 = table[np.arange(len(table)), choices.answered]
    return column


def _surprises(outcome: Outcome, choices: LoggedChoices) -> Float64:
    """Differences from what was expected, in units of what they were expected to be."""
    unit = np.sqrt(np.maximum(_of_answers(outcome.squares, choices), _TINY))
    return (outcome.observed - _of_answers(outcome.modelled, choices)) / unit


def _persistence(surprise: Float64, choices: LoggedChoices) -> float:
    """Correlate answers of one model to one query; believed to be 1 until pairs say otherwise."""
    pair = choices.query * len(choices.models) + choices.answered
    _, group, size = np.unique(pair, return_inverse=True, return_counts=True)
    sums, squares = np.bincount(group, surprise), np.bincount(group, surprise**2)
    products, pairs = float((sums**2 - squares).sum()), float((size * (size - 1.0)).sum())
    return float(np.clip((products + PRIOR_ANSWERS) / (pairs + PRIOR_ANSWERS), 0.0, 1.0))
