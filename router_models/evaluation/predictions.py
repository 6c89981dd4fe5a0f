"""How far predictions are from what happened, on the answers that there are.

All of it counts only what a model really answered, so it holds for a log in which every query has
one answer as for a table in which every model answered.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_models.evaluation.comparison import spread
from router_models.evaluation.frontier import Float64, Interval
from router_models.types import Evaluations, Float32, Prediction

MOST_BINS = 10
ANSWERS_PER_BIN = 50
"""A mean of fewer answers says more about chance than about the prediction."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about the same predicted quality.

    Attributes:
        predicted: Mean predicted quality.
        actual: Mean quality of the answers.
        answers: How many there are.
    """

    predicted: float
    actual: float
    answers: int


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Predictions beside answers.

    Attributes:
        answers: How many answers there are.
        squared_error: Mean squared error of quality; the Brier score where quality is 0 or 1.
        calibration_error: Mean distance of predicted and actual quality over `bins`, weighted by
            answers (ECE). Chance alone gives about .05 for 500 answers and .016 for 5,000.
        cost_ratio: Predicted cost of all answers over their actual cost.
        bins: By predicted quality, each of about as many answers.
    """

    answers: int
    squared_error: float
    calibration_error: float
    cost_ratio: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Predictions:
    """How well one router predicts.

    Attributes:
        overall: On all answers.
        models: On those of each model that answered.
        over_means: Squared error, less that of predicting every model's mean: below 0 is better.
        over: The same beside other routers, by name.
    """

    overall: Accuracy
    models: Mapping[str, Accuracy]
    over_means: Interval
    over: Mapping[str, Interval]


def judge_predictions(
    predictions: Mapping[str, Prediction],
    truth: Evaluations,
    mean_quality: Float32,
    weights: Float64,
) -> dict[str, Predictions]:
    """Measure predictions on the answers of `truth`, and compare them.

    Args:
        predictions: By name, of every query and model of `truth`.
        truth: Every query has an answer.
        mean_quality: Of each model on other queries: what is predicted without looking at a query.
        weights: Draws of the queries, as `comparison.with_all_queries` makes them.
    """
    answered = np.isfinite(truth.quality)
    answers = weights @ answered.sum(axis=1)

    def drawn(quality: Float32) -> Float64:
        errors = np.where(answered, (quality - truth.quality) ** 2, 0.0)
        mean: Float64 = (weights @ errors.sum(axis=1, dtype=np.float64)) / answers
        return mean

    errors = {name: drawn(each.quality) for name, each in predictions.items()}
    plain, places = drawn(mean_quality), np.arange(len(truth.models))
    return {
        name: Predictions(
            _accuracy(prediction, truth, answered),
            {
                model: _accuracy(prediction, truth, answered & (places == column))
                for column, model in enumerate(truth.models)
                if answered[:, column].any()
            },
            spread(errors[name] - plain),
            {other: spread(errors[name] - errors[other]) for other in errors if other != name},
        )
        for name, prediction in predictions.items()
    }


def _accuracy(prediction: Prediction, truth: Evaluations, counted: NDArray[np.bool_]) -> Accuracy:
    predicted, actual = (
        table[counted].astype(np.float64) for table in (prediction.quality, truth.quality)
    )
    bins = _bins(predicted, actual)
    distances = [item.answers * abs(item.predicted - item.actual) for item in bins]
    charged = float(truth.cost_usd[counted].sum(dtype=np.float64))
    expected = float(prediction.cost_usd[counted].sum(dtype=np.float64))
    return Accuracy(
        answers=len(actual),
        squared_error=float(((predicted - actual) ** 2).mean()),
        calibration_error=sum(distances) / len(actual),
        cost_ratio=expected / charged if charged > 0 else np.nan,
        bins=bins,
    )


def _bins(predicted: Float64, actual: Float64) -> tuple[Bin, ...]:
    """Cut at quantiles of the prediction; equal predictions stay together."""
    n_bins = min(max(len(predicted) // ANSWERS_PER_BIN, 1), MOST_BINS)
    edges = np.quantile(predicted, np.arange(1, n_bins) / n_bins)
    place = np.searchsorted(edges, predicted, side="left")
    answers = np.bincount(place, minlength=n_bins)
    means = [np.bincount(place, each, n_bins) for each in (predicted, actual)]
    return tuple(
        Bin(float(means[0][i] / answers[i]), float(means[1][i] / answers[i]), int(answers[i]))
        for i in np.flatnonzero(answers)
    )
