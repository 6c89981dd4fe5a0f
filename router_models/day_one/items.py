"""How hard each prompt is and how much it tells models apart, from the answers of known models."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from router_models.day_one.belief import LEAST_INFORMATION, Float64, sigmoid

ROUNDS: Final = 4
NEWTON_STEPS: Final = 4
LEAST_VARIANCE, LARGEST_VARIANCE = 0.01, 4.0


@dataclass(frozen=True, slots=True, eq=False)
class ItemModel:
    """How far prompts differ from what their text says.

    Attributes:
        variance: Of difficulty and of each discrimination; shape ``(1 + n_axes,)``.
        steepness: What factors read from text are multiplied by: averaged over prompts of one text,
            curves are flatter than each prompt's own.
    """

    variance: Float64
    steepness: float


def fit_items(factors: Float64, places: Float64, score: Float64) -> ItemModel:
    """Estimate how far prompts differ, by expectation and maximisation.

    Args:
        factors: Of each prompt by its text; shape ``(n, 1 + n_axes)``.
        places: Of the known models, first column 1; shape ``(n_known, 1 + n_axes)``.
        score: Shape ``(n, n_known)``.
    """
    model = ItemModel(np.full(factors.shape[1], 0.5), 1.0)
    for _ in range(ROUNDS):
        model = _with_variance(model.variance)
        found, covariance = item_posteriors(model, factors, places, score)
        apart = (found - model.steepness * factors) ** 2
        spread = np.diagonal(covariance, axis1=1, axis2=2)
        model = _with_variance(
            np.clip((apart + spread).mean(axis=0), LEAST_VARIANCE, LARGEST_VARIANCE)
        )
    return model


def item_posteriors(
    model: ItemModel, factors: Float64, places: Float64, score: Float64
) -> tuple[Float64, Float64]:
    """Factors of each prompt given its answers, and their covariance, by Newton's method."""
    prior = model.steepness * factors
    precision = np.diag(1.0 / model.variance)
    found = prior.copy()
    for _ in range(NEWTON_STEPS):
        probability = sigmoid(found @ places.T)
        information = np.maximum(probability * (1.0 - probability), LEAST_INFORMATION)
        curvature: Float64 = np.einsum("nk,ki,kj->nij", information, places, places, optimize=True)
        curvature += precision
        slope = (score - probability) @ places - (found - prior) @ precision
        step = np.linalg.solve(curvature, slope[..., None])[..., 0]
        found = np.asarray(found + step, np.float64)
    return found, np.asarray(np.linalg.inv(curvature), np.float64)


def _with_variance(variance: Float64) -> ItemModel:
    return ItemModel(variance, float(np.sqrt(1.0 + np.pi / 8.0 * variance[0])))
