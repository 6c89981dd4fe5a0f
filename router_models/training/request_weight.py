"""How much the shape of a request counts beside the text of its query, chosen on held-out rows.

The shape may say all (a user of a known application writes "Go on.") or nothing (an application
sends everybody's questions), and in distances one cannot count more without the other counting
less. `docs/explanation/routers.md` has what either costs.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from router_models.artifacts.sealed_file import EncoderIdentity, RequestEncoder
from router_models.estimators.arrays import Scaler
from router_models.estimators.guard import GuardedEstimator
from router_models.estimators.mixture import MixtureEstimator
from router_models.evaluation.routing_value import RoutingValue, mean_gain
from router_models.pricing import in_unit, unit_of
from router_models.training.settings import MlpSettings
from router_models.training.train import (
    Trial,
    average,
    fit,
    folds,
    predict_held_out,
    predict_usd,
    rows_held_out,
    train,
)
from router_models.types import Evaluations, Float32, Prediction

WEIGHTS = (0.0, 1.0, 3.0)
"""Times what `measure_shape` gives; 0 leaves a router of texts."""


def train_on_requests(
    evaluations: Evaluations,
    validation: Evaluations,
    kind: str,
    seed: int,
    best: Trial,
    encoder: EncoderIdentity,
) -> tuple[GuardedEstimator, EncoderIdentity, Trial]:
    """Train on vectors of whole requests, as far as what is appended to the text's helps.

    Args:
        evaluations: Rows to learn from.
        validation: More of them, to choose by.
        kind: Of the estimator.
        seed: The same gives the same bits.
        best: Settings that tuning chose, and what routing by them gains.
        encoder: Of the texts.

    Returns:
        The router, the encoder whose vectors it reads, and what routing by it gains.
    """
    n_text = encoder.dimension
    weight, trial = choose_weight(evaluations, validation, best, n_text, seed)
    rows, held_out = (weighted(part, n_text, weight) for part in (evaluations, validation))
    router = train(rows, held_out, kind, seed, trial.settings)
    if weight == 0.0:
        return router, encoder, trial
    return read_unweighted(router, n_text, weight), RequestEncoder.of(encoder), trial


def choose_weight(
    evaluations: Evaluations, validation: Evaluations, best: Trial, n_text: int, seed: int
) -> tuple[float, Trial]:
    """Value routing by each weight on rows that it has not seen; the MLP weighs its inputs itself.

    Returns:
        The best weight of those that are certainly better than 0, or else 0; and what it gains.
    """
    if isinstance(best.settings, MlpSettings):
        return 1.0, best
    unit, parts = unit_of(evaluations), folds(evaluations, validation, seed)

    def predict_all(learn: Evaluations, held: Evaluations) -> Iterator[Prediction]:
        for weight in WEIGHTS:
            known, asked = (weighted(rows, n_text, weight) for rows in (learn, held))
            estimator = fit(in_unit(known, unit), in_unit(asked, unit), best.settings, seed)
            yield predict_usd(estimator, asked, unit)

    predictions = predict_held_out(predict_all, parts)
    report = RoutingValue(rows_held_out(parts), average(predictions))
    routed = [report.of_routing(prediction) for prediction in predictions]
    proven = [w for w, rows in enumerate(routed) if w == 0 or mean_gain(rows, routed[0]).low > 0]
    chosen = max(proven, key=lambda place: float(routed[place].mean()))
    gain = mean_gain(routed[chosen], report.of_best_single())
    return WEIGHTS[chosen], Trial(best.settings, float(routed[chosen].mean()), gain)


def weighted(evaluations: Evaluations, n_text: int, weight: float) -> Evaluations:
    """Let the features behind the first `n_text` count `weight` times; 0 cuts them off."""
    embeddings = evaluations.embeddings
    if weight == 0.0:
        return replace(evaluations, embeddings=embeddings[:, :n_text])
    return replace(
        evaluations, embeddings=embeddings * _factors(embeddings.shape[1], n_text, weight)
    )


def read_unweighted(router: GuardedEstimator, n_text: int, weight: float) -> GuardedEstimator:
    """Turn a router that was learned from `weighted` rows into one that reads plain rows."""

    def scaled(part: Any) -> Any:
        if isinstance(part, MixtureEstimator):
            return replace(part, local=scaled(part.local), shared=scaled(part.shared))
        factors = _factors(len(part.scaler.shift), n_text, weight)
        scaler = Scaler(part.scaler.shift / factors, part.scaler.factor * factors)
        return replace(part, scaler=scaler)

    return GuardedEstimator(scaled(router.estimator), scaled(router.guard))


def _factors(dimension: int, n_text: int, weight: float) -> Float32:
    factors = np.ones(dimension, np.float32)
    factors[n_text:] = weight
    return factors
