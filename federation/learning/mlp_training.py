"""The MLP router at a client: it trains the common weights, or takes a gradient, with torch."""

import numpy as np
import torch
from torch import Tensor, nn

from federation.learning.mlp import LocalUpdate
from federation.learning.settings import FederatedMlpSettings
from federation.learning.statistics import Scales
from router_models.statistics import select
from router_models.training.mlp import (
    MAX_GRADIENT_NORM,
    Loss,
    RouterNetwork,
    Rows,
    masked_loss,
    mean_loss,
    optimizer_of,
    run_epoch,
    single_threaded,
)
from router_models.training.mlp_weights import Weights
from router_models.types import Evaluations, Float32

ROWS_AT_ONCE = 4096
"""In one pass of a gradient over all rows; keeps memory within bounds."""


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
    answers = evaluations.counts
    kept = np.flatnonzero(answers.any(axis=1))
    counts = np.array([len(kept)], np.float64), answers.sum(axis=0, dtype=np.float64)
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
    answers = rows.counts.sum()
    order = torch.arange(len(rows.features))
    for start in range(0, len(order), ROWS_AT_ONCE):
        part = rows.take(order[start : start + ROWS_AT_ONCE])
        share = part.counts.sum() / answers
        torch.autograd.backward(share * loss(network(part.features), part))
    nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
    of_model = (answers / rows.counts.sum(dim=0).clamp(min=1.0)).tile(2)
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


def validation_loss(
    weights: Weights, evaluations: Evaluations, scales: Scales
) -> tuple[float, float]:
    """Sum of the loss over a client's held-out evaluations, by weight, and of their weights."""
    count = float(evaluations.counts.sum(dtype=np.float64))
    rows = Rows.from_evaluations(evaluations, scales.scaler, scales.cost_scale)
    return mean_loss(RouterNetwork.from_weights(weights), rows) * count, count
