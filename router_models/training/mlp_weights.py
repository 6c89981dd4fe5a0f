"""The MLP router's weights on their way to the estimator that serves; numpy alone, no torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models.estimators.arrays import Scaler
from router_models.estimators.mlp import MlpEstimator
from router_models.types import Float32

Weights = Mapping[str, Float32]
"""Trunk and heads, named and laid out as `MlpEstimator.to_arrays` has them."""


def logit(quality_means: Float32) -> Float32:
    """Bias of a quality head that predicts its model's mean."""
    means = quality_means.clip(0.01, 0.99)
    bias: Float32 = np.log(means / (1.0 - means))
    return bias


def build_estimator(
    models: tuple[str, ...],
    weights: Weights,
    scaler: Scaler,
    cost_scale: Float32,
    cost_floor_usd: Float32,
) -> MlpEstimator:
    """Put weights and scales together into the estimator that serves.

    Raises:
        ArtifactRejected: They do not fit together.
    """
    arrays: dict[str, NDArray[Any]] = {
        **weights,
        **scaler.to_arrays(),
        "cost_scale": cost_scale,
        "cost_floor_usd": cost_floor_usd,
    }
    return MlpEstimator.from_arrays(models, arrays)
