"""Fits how predicted quality is to be read, on rows that were held out of what predicted them."""

from typing import Final

import numpy as np

from router_models.estimators.calibration import Calibration, logit
from router_models.types import Evaluations, Float32, Float64

PRIOR_ROWS: Final = 40.0
"""How many queries count for leaving predictions as they are."""

STEPS: Final = 20
"""More than Newton's method takes on two numbers."""

FLATTEST, STEEPEST, FURTHEST = 0.25, 4.0, 4.0


def fit_calibration(predicted: Float32, truth: Evaluations) -> Calibration:
    """Regress the answers of `truth` on the logits of what was predicted for them.

    Logistic regression, Platt (1999). A query counts once at most, however many models answered it
    and however often it was sent: what makes it hard is the same for all of them.

    Args:
        predicted: Quality; shape ``(n_queries, n_models)``.
        truth: The same queries and models; NaN where a model did not answer.
    """
    answered = np.isfinite(truth.quality)
    _, query, sent = np.unique(truth.embeddings, axis=0, return_inverse=True, return_counts=True)
    answers = answered.sum(axis=1) * sent[query.reshape(-1)]
    weights = (truth.counts / np.maximum(answers, 1)[:, np.newaxis])[answered]
    odds, actual = logit(predicted[answered]), truth.quality[answered].astype(np.float64)
    features = np.stack([np.ones_like(odds), odds])
    plain: Float64 = np.array([0.0, 1.0])
    # Queries of an even chance, at logits of 1.
    prior = np.diag([PRIOR_ROWS / 4, PRIOR_ROWS / 4])
    found = plain
    for _ in range(STEPS):
        expected = 1.0 / (1.0 + np.exp(-(found @ features)))
        variance = weights * expected * (1.0 - expected)
        gradient = features @ (weights * (actual - expected)) - prior @ (found - plain)
        found = found + np.linalg.solve((features * variance) @ features.T + prior, gradient)
    shift, slope = found.tolist()
    return Calibration(
        float(np.clip(shift, -FURTHEST, FURTHEST)), float(np.clip(slope, FLATTEST, STEEPEST))
    )
