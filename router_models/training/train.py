"""From evaluations to an estimator that can be served."""

from dataclasses import dataclass
from importlib import import_module

import numpy as np

from router_models.estimators.guard import GuardedEstimator
from router_models.evaluation.frontier import oracle_gain
from router_models.statistics import check
from router_models.training.guard import fit_guard
from router_models.training.kmeans import fit_kmeans
from router_models.training.knn import fit_knn
from router_models.training.ridge import fit_ridge
from router_models.training.settings import (
    KMeansSettings,
    KnnSettings,
    MlpSettings,
    RidgeSettings,
    Settings,
    candidates,
)
from router_models.types import Estimator, Evaluations

TUNING_LAMBDAS = np.geomspace(1e-1, 1e5, 25)
"""Fewer points than a frontier has: tuning only needs the order of the candidates."""

LEAST_ROWS = 20


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting that tuning tried, and its share of the oracle's gain on validation rows."""

    settings: Settings
    gain: float


def fit(
    evaluations: Evaluations, validation: Evaluations, settings: Settings, seed: int
) -> Estimator:
    """Fit one estimator, without a guard, with these settings."""
    match settings:
        case KMeansSettings():
            return fit_kmeans(evaluations, settings, seed)
        case MlpSettings():
            # torch takes two seconds and 200 MB, which those who train other routers are spared.
            fit_mlp = import_module("router_models.training.mlp").fit_mlp
            estimator: Estimator = fit_mlp(evaluations, validation, settings, seed)
            return estimator
        case KnnSettings():
            return fit_knn(evaluations, settings)
        case RidgeSettings():
            return fit_ridge(evaluations, settings)


def tune(evaluations: Evaluations, validation: Evaluations, kind: str, seed: int) -> list[Trial]:
    """Try each kind's candidates on `validation`; best first.

    Raises:
        InvalidEvaluations: The tables cannot be learned from.
        ValueError: There is no such kind.
    """
    check(evaluations, LEAST_ROWS)
    check(validation)
    trials = []
    for settings in candidates(kind):
        estimator = fit(evaluations, validation, settings, seed)
        prediction = estimator.predict(validation.embeddings)
        trials.append(Trial(settings, oracle_gain(prediction, validation, TUNING_LAMBDAS)))
    return sorted(trials, key=lambda trial: -trial.gain)


def train(
    evaluations: Evaluations,
    validation: Evaluations,
    kind: str,
    seed: int,
    settings: Settings | None = None,
) -> GuardedEstimator:
    """Tune on `validation` unless `settings` are given, fit, and put a guard around it.

    The same seed gives the same bits.

    Raises:
        InvalidEvaluations: The tables cannot be learned from.
        ValueError: There is no such kind.
    """
    check(evaluations, LEAST_ROWS)
    check(validation)
    chosen = settings or tune(evaluations, validation, kind, seed)[0].settings
    estimator = fit(evaluations, validation, chosen, seed)
    return GuardedEstimator(estimator, fit_guard(evaluations, validation, seed))
