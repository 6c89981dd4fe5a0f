"""The MLP router across clients: each trains or takes a gradient, the coordinator averages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from federation.learning.aggregation import Contribution, weighted_mean
from federation.learning.settings import FederatedMlpSettings
from federation.learning.statistics import Scales
from federation.learning.sums import Float64
from router_models.estimators.arrays import read_array
from router_models.estimators.mlp import MlpEstimator
from router_models.statistics import select
from router_models.training.mlp import (
    MAX_GRADIENT_NORM,
    Loss,
    RouterNetwork,
    Rows,
    Weights,
    build_estimator,
    masked_loss,
    mean_loss,
    optimizer_of,
    run_epoch,
    single_threaded,
)
from router_models.types import Arrays, Evaluations, Float32

HEADS = ("head_weight", "head_bias")
"""Arrays whose last axis runs over models: quality heads, then cost heads."""

ROWS_AT_ONCE = 4096
"""In one pass of a gradient over all rows; keeps memory within bounds."""


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


def initial_weights(
    scales: Scales, settings: FederatedMlpSettings, seed: int
) -> dict[str, Float32]:
    """Draw the weights that the first round begins with; heads begin at their models' means."""
    dimension, n_models = len(scales.scaler.shift), len(scales.quality_means)
    with single_threaded(seed):
        network = RouterNetwork(dimension, n_models, settings.hidden, settings.dropout)
    network.init_quality_bias(scales.quality_means)
    return network.weights()


def train_locally(
    weights: Weights,
    evaluations: Evaluations,
    scales: Scales,
    settings: FederatedMlpSettings,
    seed: int,
    *,
    frozen_trunk: bool = False,
    teacher: Weights | None = None,
) -> LocalUpdate:
    """Train on one client's rows, starting from the common weights.

    A client without rows returns them unchanged, with no influence. The same seed gives the same
    bits.

    Args:
        weights: Common weights; their columns are those of `evaluations`.
        evaluations: Rows that no model answered are left out.
        scales: Of all clients' rows.
        settings: Of the session.
        seed: Of the order of rows and of dropout.
        frozen_trunk: Train the heads alone.
        teacher: Weights of a router to stay close to, on these rows and for all models.
    """
    answered = np.isfinite(evaluations.quality)
    kept = np.flatnonzero(answered.any(axis=1))
    counts = np.array([len(kept)], np.float64), answered.sum(axis=0).astype(np.float64)
    if not len(kept):
        return LocalUpdate(dict(weights), *counts)
    rows = Rows.from_evaluations(select(evaluations, kept), scales.scaler, scales.cost_scale)
    loss = masked_loss if teacher is None else _distilling(RouterNetwork.from_weights(teacher))
    with single_threaded(seed):
        network = RouterNetwork.from_weights(weights, settings.dropout)
        network.trunk.requires_grad_(not frozen_trunk)
        if settings.adam_at == "coordinator":
            _gradient_step(network, rows, loss)
        else:
            optimizer = optimizer_of(network, settings.learning_rate, settings.weight_decay)
            for _ in range(settings.local_epochs):
                run_epoch(network, optimizer, rows, settings.batch_size, loss)
    return LocalUpdate(network.weights(), *counts)


def _gradient_step(network: RouterNetwork, rows: Rows, loss: Loss) -> None:
    """Go down by the mean gradient over all rows, once.

    A head goes by the mean over its own model's rows, since these are what it counts by in the
    average.
    """
    network.train()
    answers = rows.answered.sum()
    order = torch.arange(len(rows.features))
    for start in range(0, len(order), ROWS_AT_ONCE):
        part = rows.take(order[start : start + ROWS_AT_ONCE])
        share = part.answered.sum() / answers
        torch.autograd.backward(share * loss(network(part.features), part))
    nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
    of_model = (answers / rows.answered.sum(dim=0).clamp(min=1.0)).tile(2)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.grad is not None:
                per_row = of_model.view(-1, *[1] * (parameter.ndim - 1))
                parameter.sub_(parameter.grad * (per_row if name.startswith("heads.") else 1.0))


def _distilling(teacher: RouterNetwork) -> Loss:
    """Loss on the rows plus distance from the teacher's outputs, for all models, weight 1."""
    teacher.eval()

    def loss(heads: Tensor, rows: Rows) -> Tensor:
        with torch.no_grad():
            taught_logits, taught_cost = teacher(rows.features).chunk(2, dim=1)
        logits, cost_z = heads.chunk(2, dim=1)
        distance = nn.functional.mse_loss(torch.sigmoid(logits), torch.sigmoid(taught_logits))
        distance = distance + nn.functional.smooth_l1_loss(cost_z, taught_cost)
        return masked_loss(heads, rows) + distance

    return loss


def average(weights: Weights, updates: Sequence[LocalUpdate]) -> dict[str, Float32]:
    """Average what clients sent; a head that no client has rows for stays as in `weights`."""
    return weighted_mean(weights, [update.contribution() for update in updates])


def validation_loss(
    weights: Weights, evaluations: Evaluations, scales: Scales
) -> tuple[float, int]:
    """Sum of the loss over a client's held-out evaluations, and how many there are."""
    count = int(np.isfinite(evaluations.quality).sum())
    rows = Rows.from_evaluations(evaluations, scales.scaler, scales.cost_scale)
    return mean_loss(RouterNetwork.from_weights(weights), rows) * count, count


def to_estimator(weights: Weights, models: tuple[str, ...], scales: Scales) -> MlpEstimator:
    """Put the common weights into the estimator that serves."""
    return build_estimator(models, weights, scales.scaler, scales.cost_scale, scales.cost_floor_usd)
