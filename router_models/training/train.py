"""From evaluations to an estimator that can be served."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial, reduce
from importlib import import_module
from itertools import combinations
from math import sqrt
from typing import Any

import numpy as np

from router_models.estimators.calibration import Calibration
from router_models.estimators.guard import GuardedEstimator
from router_models.estimators.mixture import MixtureEstimator
from router_models.evaluation.frontier import Interval
from router_models.evaluation.routing_value import (
    SHRINKAGE,
    Float64,
    RoutingValue,
    mean_gain,
)
from router_models.pricing import Prompts, in_unit, in_usd, unit_of
from router_models.statistics import check, join, select
from router_models.training.calibration import fit_calibration
from router_models.training.guard import fit_guard
from router_models.training.kmeans import fit_kmeans, overlay
from router_models.training.knn import fit_knn
from router_models.training.ridge import fit_ridge
from router_models.training.settings import (
    AUTO,
    DEFAULTS,
    AverageSettings,
    KMeansSettings,
    KnnSettings,
    MlpSettings,
    RidgeSettings,
    Settings,
    auto_candidates,
    candidates,
)
from router_models.types import Estimator, Evaluations, Prediction, Unit

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

    settings: Settings | AverageSettings
    value: float
    gain: Interval


def fit(
    evaluations: Evaluations,
    validation: Evaluations,
    settings: Settings | AverageSettings,
    seed: int,
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
        case AverageSettings():
            first, second = (fit(evaluations, validation, one, seed) for one in settings.parts)
            half = np.full(len(evaluations.models), 0.5, np.float32)
            return MixtureEstimator(first, second, half, half)


def fit_each(
    evaluations: Evaluations, validation: Evaluations, settings: Sequence[Settings], seed: int
) -> Iterator[Estimator]:
    """Fit with each of `settings`; what several of them have in common is fitted once."""
    fitted: dict[tuple[Any, ...], Any] = {}
    for one in settings:
        layers = one.layers if isinstance(one, KMeansSettings) else (one,)
        found = []
        for layer in layers:
            key = tuple(
                [getattr(layer, i.name) for i in fields(layer) if i.name not in APPLIED_LATER]
            )
            if key not in fitted:
                fitted[key] = fit(evaluations, validation, layer, seed)
            found.append(fitted[key])
        later = {i.name: getattr(one, i.name) for i in fields(one) if i.name in APPLIED_LATER}
        yield replace(found[0] if len(found) == 1 else overlay(found), **later)


def tune(evaluations: Evaluations, validation: Evaluations, kind: str, seed: int) -> list[Trial]:
    """Value routing by each of the kind's candidates on rows that it has not seen; best first.

    One of `DEFAULTS` goes before the highest value if it is within a standard error of that.

    The MLP, whose fits have nothing in common and which stops by `validation`, is valued on that
    alone; all other kinds by cross-validation on all rows.

    Args:
        evaluations: Rows to learn from.
        validation: More rows to be valued on.
        kind: One of `KINDS`; or `AUTO`, which compares the best of several kinds, and their
            averages, on the same rows. Its first trial is the simplest whose value is within a
            standard error of the highest.
        seed: Of all that is drawn.

    Raises:
        InvalidEvaluations: The tables cannot be learned from.
        ValueError: There is no such kind.
    """
    check(evaluations, LEAST_ROWS)
    check(validation)
    if kind == AUTO:
        return _tune_kinds(folds(evaluations, validation, seed), seed)
    is_network = kind == "mlp"
    parts = [(evaluations, validation)] if is_network else folds(evaluations, validation, seed)
    settings = candidates(kind)
    predictions = predict_held_out(partial(_predict_all, settings, seed), parts)
    values, gains = _value(predictions, rows_held_out(parts))
    trials = [
        Trial(one, float(value.mean()), gain)
        for one, value, gain in zip(settings, values, gains, strict=True)
    ]
    chosen = trials.pop(_best(settings, values))
    return [chosen, *sorted(trials, key=lambda trial: -trial.value)]


def _predict_all(
    settings: Sequence[Settings], seed: int, learn: Evaluations, held: Evaluations
) -> Iterator[Prediction]:
    unit = unit_of(learn)
    for estimator in fit_each(in_unit(learn, unit), in_unit(held, unit), settings, seed):
        yield predict_usd(estimator, held, unit)


def predict_usd(estimator: Estimator, asked: Evaluations, unit: Unit) -> Prediction:
    """Predict for the queries of a table, at its prices where `unit` is tokens."""
    return in_usd(estimator.predict(asked.embeddings), unit, Prompts.of(asked))


def _tune_kinds(parts: Sequence[tuple[Evaluations, Evaluations]], seed: int) -> list[Trial]:
    """Tune each kind; then choose among the best of each and the averages of two of them."""
    truth = rows_held_out(parts)
    tuned: list[tuple[Settings, Prediction]] = []
    for settings in auto_candidates():
        predictions = predict_held_out(partial(_predict_all, settings, seed), parts)
        best = _best(settings, _value(predictions, truth)[0])
        tuned.append((settings[best], predictions[best]))
    finalists: list[tuple[Settings | AverageSettings, Prediction]] = [*tuned]
    for (first, one), (second, other) in combinations(tuned, 2):
        finalists.append((AverageSettings((first, second)), average([one, other])))
    # Shrinkage trusts the guess, which is the mean of the finalists: it would favour an average.
    report = RoutingValue(truth, average([one for _, one in finalists]))
    values, single = [report.of_routing(one) for _, one in finalists], report.of_best_single()
    trials = [
        Trial(one, float(value.mean()), mean_gain(value, single))
        for (one, _), value in zip(finalists, values, strict=True)
    ]
    chosen = trials.pop(_simplest_of_the_best(values))
    return [chosen, *sorted(trials, key=lambda trial: -trial.value)]


def _best(settings: Sequence[Settings], values: Sequence[Float64]) -> int:
    """Return the place of the highest value, or of a default that is as good."""
    highest = int(np.argmax([value.mean() for value in values]))
    places = [*(place for place, one in enumerate(settings) if one in DEFAULTS), highest]
    return places[_simplest_of_the_best([values[place] for place in places])]


def _simplest_of_the_best(values: Sequence[Float64]) -> int:
    """Return the first that is within a standard error of the best: the one-standard-error rule.

    The error is that of the difference, query by query, which what makes a query hard is not in.
    """
    best = max(values, key=lambda value: float(value.mean()))
    differences = [best - value for value in values]
    within = [one.mean() <= one.std() / sqrt(len(one)) for one in differences]
    return within.index(True)


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
    values, gains = _value(predict_held_out(predict_all, parts), rows_held_out(parts))
    return [(float(value.mean()), gain) for value, gain in zip(values, gains, strict=True)]


def predict_held_out(
    predict_all: Callable[[Evaluations, Evaluations], Iterable[Prediction]],
    parts: Sequence[tuple[Evaluations, Evaluations]],
) -> list[Prediction]:
    """Return each candidate's predictions for all of `rows_held_out`, none of which it saw."""
    found = [list(predict_all(learn, held)) for learn, held in parts]
    return [_joined(of_parts) for of_parts in zip(*found, strict=True)]


def rows_held_out(parts: Sequence[tuple[Evaluations, Evaluations]]) -> Evaluations:
    """Join the rows that each part is valued on."""
    return reduce(join, [held for _, held in parts])


def _value(
    predictions: Sequence[Prediction], truth: Evaluations
) -> tuple[list[Float64], list[Interval]]:
    """Value routing by each prediction, query by query, and its gain over the best single model."""
    guess = average(predictions)
    # Noise is what choosing suffers from, bias what a figure does.
    choice, report = RoutingValue(truth, guess, SHRINKAGE), RoutingValue(truth, guess)
    single = report.of_best_single()
    return (
        [choice.of_routing(one) for one in predictions],
        [mean_gain(report.of_routing(one), single) for one in predictions],
    )


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


def average(predictions: Sequence[Prediction]) -> Prediction:
    """Average predictions for the same queries."""
    return Prediction(
        np.mean([one.quality for one in predictions], axis=0),
        np.mean([one.cost_usd for one in predictions], axis=0),
    )


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
    settings: Settings | AverageSettings | None = None,
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
    guard = fit_guard(rows, held_out, seed)
    guard.calibration = _calibrate(estimator, chosen, rows, held_out, seed)
    return GuardedEstimator(estimator, guard)


def _calibrate(
    estimator: Estimator,
    settings: Settings | AverageSettings,
    evaluations: Evaluations,
    validation: Evaluations,
    seed: int,
) -> Calibration:
    """Compare what the same settings predict for rows held out with the answers there.

    On all rows in turn: the validation rows alone are too few to say how hard queries are. The MLP
    is too slow for that.
    """
    if isinstance(settings, MlpSettings):
        return fit_calibration(estimator.predict(validation.embeddings).quality, validation)
    # Labels, which only one of the tables may have, are not read.
    both = [replace(rows, tasks=(), texts=()) for rows in (evaluations, validation)]
    parts = folds(both[0], both[1], seed)

    def predict_all(learn: Evaluations, held: Evaluations) -> Iterator[Prediction]:
        yield fit(learn, held, settings, seed).predict(held.embeddings)

    (prediction,) = predict_held_out(predict_all, parts)
    return fit_calibration(prediction.quality, rows_held_out(parts))
