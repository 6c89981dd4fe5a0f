"""The MLP router across clients: what they send, and what the coordinator makes of it.

Nothing here needs torch. What trains at a client does, and is imported only where one trains.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.learning.aggregation import Contribution, weighted_mean
from federation.learning.statistics import Scales
from federation.learning.sums import Float64
from router_models.estimators.arrays import read_array
from router_models.estimators.mlp import MlpEstimator
from router_models.training.mlp_weights import Weights, build_estimator
from router_models.types import Arrays, Float32

HEADS = ("head_weight", "head_bias")
"""Arrays whose last axis runs over models: quality heads, then cost heads."""


@dataclass(frozen=True, slots=True, eq=False)
class LocalUpdate:
    """What a client sends after a round.

    Attributes:
        weights: After its training.
        rows: Queries that it trained on; shape ``(1,)``.
        rows_per_model: Of them, those that each model answered; shape ``(n_models,)``.
    """

    weights: Weights
    rows: Float64
    rows_per_model: Float64

    def contribution(self) -> Contribution:
        """Say how much the client counts: in the trunk by rows, in each head by its model's rows.

        Weighted by all rows, clients that never saw a model would dilute its head.
        """
        per_head = np.tile(self.rows_per_model, 2)
        weights = {name: per_head if name in HEADS else self.rows[0] for name in self.weights}
        return Contribution(self.weights, weights)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs; what leaves the client."""
        return {**self.weights, "rows": self.rows, "rows_per_model": self.rows_per_model}

    @classmethod
    def from_arrays(cls, arrays: Arrays, expected: Weights) -> "LocalUpdate":
        """Rebuild from `to_arrays`; `expected` are the weights that the client was sent.

        Raises:
            ArtifactRejected: An array is missing, has the wrong shape or is not finite.
        """
        weights = {name: read_array(arrays, name, array.shape) for name, array in expected.items()}
        n_models = len(expected["head_bias"]) // 2
        return cls(
            weights,
            read_array(arrays, "rows", (1,)),
            read_array(arrays, "rows_per_model", (n_models,)),
        )


def average(weights: Weights, updates: Sequence[LocalUpdate]) -> dict[str, Float32]:
    """Average what clients sent; a head that no client has rows for stays as in `weights`."""
    return weighted_mean(weights, [update.contribution() for update in updates])


def to_estimator(weights: Weights, models: tuple[str, ...], scales: Scales) -> MlpEstimator:
    """Put the common weights into the estimator that serves."""
    return build_estimator(models, weights, scales.scaler, scales.cost_scale, scales.cost_floor_usd)


def mlp_training() -> Any:
    """Import the module that trains at a client: torch takes two seconds and 200 MB."""
    return import_module("federation.learning.mlp_training")
