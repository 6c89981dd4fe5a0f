"""From evaluations to an estimator that can be served."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from importlib import import_module
from typing import Any

import numpy as np

from router_models.estimators.guard import GuardedEstimator
from router_models.evaluation.frontier import Interval
from router_models.evaluation.routing_value import SHRINKAGE, RoutingValue, mean_gain
from router_models.pricing import Prompts, in_unit, in_usd, unit_of
from router_models.statistics import check, join, select
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
from router_models.types import Estimator, Evaluations, Prediction

FOLDS = 5

TUNING_ROWS = 8_000
"""As many rows as tuning looks at, drawn at random where there are more: its time has a bound."""

LEAST_ROWS = 20


APPLIED_LATER = frozenset({"prior_rows", "temperature", "neighbours", "alpha"})
"""Settings that an estimator reads when it predicts: a fit serves all values of them."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting that tuning tried.

    Attributes:
        value: Of routing by it; see `router_models.evaluation.routing_value`.
        gain: Of that over the best single model, with its 95 % interval.
    """

    settings: Settings
    value: float
    gain: Interval


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


def fit_each(
    evaluations: Evaluations, validation: Evaluations, settings: Sequence[Settings], seed: int
) -> Iterator[Estimator]:
    """Fit with each of `settings`; what several of them have in common is fitted once."""
    fitted: dict[tuple[Any, ...], Any] = {}
    for one in settings:
        values = {item.name: getattr(one, item.name) for item in fields(one)}
        later = {name: values.pop(name) for name in APPLIED_LATER & values.keys()}
        key = tuple(values.items())
        if key not in fitted:
            fitted[key] = fit(evaluations, validation, one, seed)
        yield replace(fitted[key], **later)


def tune(evaluations: Evaluations, validation: Evaluations, kind: str, seed: int) -> list[Trial]:
    """Value routing by each of the kind's candidates on rows that it has not seen; best first.

    The MLP, whose fits have nothing in common and which stops by `validation`, is valued on that
    alone; all other kinds by cross-validation on all rows.

    Raises:
        InvalidEvaluations: The tables cannot be learned from.
        ValueError: There is no such kind.
    """
    check(evaluations, LEAST_ROWS)
    check(validation)
    settings, unit = candidates(kind), unit_of(evaluations)

    def predict_all(learn: Evaluations, held: Evaluations) -> Iterator[Prediction]:
        prompts = Prompts.of(held)
        for estimator in fit_each(in_unit(learn, unit), in_unit(held, unit), settings, seed):
            yield in_usd(estimator.predict(held.embeddings), unit, prompts)

    if kind == "mlp":
        values = value_candidates(predict_all, [(evaluations, validation)])
    else:
        values = value_candidates(predict_all, folds(evaluations, validation, seed))
    trials = [Trial(one, *value) for one, value in zip(settings, values, strict=True)]
    return sorted(trials, key=lambda trial: -trial.value)


def value_candidates(
    predict_all: Callable[[Evaluations, Evaluations], Iterable[Prediction]],
    parts: Sequence[tuple[Evaluations, Evaluations]],
) -> list[tuple[float, Interval]]:
    """Value routing by each candidate on the rows that are held out, and its gain there.

    Args:
        predict_all: Fits every candidate, always in one order, to the first rows of a part, and
            predicts for the others.
        parts: Rows to learn from, and others to be valued on.
    """
    found = [list(predict_all(learn, held)) for learn, held in parts]
    predictions = [_joined(of_parts) for of_parts in zip(*found, strict=True)]
    guess = Prediction(
        np.mean([one.quality for one in predictions], axis=0),
        np.mean([one.cost_usd for one in predictions], axis=0),
    )
    truth = reduce(join, [held for _, held in parts])
    # Noise is what choosing suffers from, bias what a figure does.
    choice, report = RoutingValue(truth, guess, SHRINKAGE), RoutingValue(truth, guess)
    single = report.of_best_single()
    return [
        (
            float(choice.of_routing(prediction).mean()),
            mean_gain(report.of_routing(prediction), single),
        )
        for prediction in predictions
    ]


def folds(
    evaluations: Evaluations, validation: Evaluations, seed: int
) -> list[tuple[Evaluations, Evaluations]]:
    """Split all rows into parts to learn from and to hold out; equal queries stay together."""
    rows = join(evaluations, validation)
    if len(rows.quality) > TUNING_ROWS:
        drawn = np.random.default_rng(seed).permutation(len(rows.quality))[:TUNING_ROWS]
        rows = select(rows, np.sort(drawn))
    digests = [hashlib.sha256(row.tobytes()).digest() for row in rows.embeddings]
    place = {digest: index for index, digest in enumerate(sorted(set(digests)))}
    if len(place) < FOLDS:
        return [(evaluations, validation)]
    fold = np.array([place[digest] % FOLDS for digest in digests])
    return [
        (select(rows, np.flatnonzero(fold != index)), select(rows, np.flatnonzero(fold == index)))
        for index in range(FOLDS)
    ]


def _joined(parts: Sequence[Prediction]) -> Prediction:
    return Prediction(
        np.concatenate([part.quality for part in parts]),
        np.concatenate([part.cost_usd for part in parts]),
    )


def train(
    evaluations: Evaluations,
    validation: Evaluations,
    kind: str,
    seed: int,
    settings: Settings | None = None,
) -> GuardedEstimator:
    """Tune unless `settings` are given, fit on `evaluations`, and put a guard around it.

    The same seed gives the same bits. What is predicted as cost is in `unit_of` the evaluations.

    Raises:
        InvalidEvaluations: The tables cannot be learned from.
        ValueError: There is no such kind.
    """
    check(evaluations, LEAST_ROWS)
    check(validation)
    chosen = settings or tune(evaluations, validation, kind, seed)[0].settings
    unit = unit_of(evaluations)
    rows, held_out = in_unit(evaluations, unit), in_unit(validation, unit)
    estimator = fit(rows, held_out, chosen, seed)
    return GuardedEstimator(estimator, fit_guard(rows, held_out, seed))
