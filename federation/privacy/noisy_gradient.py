"""One differentially private step of the MLP router's training (DP-SGD).

Abadi et al. 2016 (arXiv 1607.00133), algorithm 1: sample, clip each row's gradient, add noise. The
step itself is taken by the coordinator, from all clients' noisy gradients together.
"""

from collections.abc import Callable
from math import sqrt

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from federation.learning.statistics import Scales
from federation.privacy.settings import NoiseSettings
from router_models.training.mlp import RouterNetwork, Rows, masked_loss, single_threaded
from router_models.training.mlp_weights import Weights
from router_models.types import Evaluations, Float32

ROWS_AT_ONCE = 128
"""A gradient per row is kept in memory: at 60,000 weights, 30 MB."""

Parameters = dict[str, Tensor]


def noisy_gradient_step(
    weights: Weights,
    evaluations: Evaluations,
    scales: Scales,
    dropout: float,
    noise: NoiseSettings,
    rng: np.random.Generator,
    sharers: int = 1,
) -> dict[str, Float32]:
    """Go down from the common weights by a noisy gradient over one client's rows, once.

    The gradient is a sum over rows of something at most `longest_gradient` long, so one query more
    or less moves it by no more than that, and the noise is put on that sum. It is not divided by
    the number of rows, which would have to be noisy too: the coordinator's Adam does not see the
    scale of a gradient.

    Args:
        weights: Common weights; their columns are those of `evaluations`.
        evaluations: May hold no row at all.
        scales: Of all clients' rows.
        dropout: In the trunk.
        noise: Of the plan.
        rng: Draws rows and noise; must not be known to whoever receives the weights.
        sharers: As in `federation.privacy.noise.add_noise`.
    """
    rows = Rows.from_evaluations(evaluations, scales.scaler, scales.cost_scale)
    deviation = noise.noise_multiplier * noise.longest_gradient / sqrt(sharers)
    with single_threaded(int(rng.integers(2**31))):
        network = RouterNetwork.from_weights(weights, dropout)
        network.train()
        drawn = torch.from_numpy(rng.random(len(rows.features)) < noise.sampling_rate)
        gradients = clipped_gradients(network, rows.take(drawn), noise.longest_gradient)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                draws = rng.normal(0.0, deviation, tuple(parameter.shape)).astype(np.float32)
                parameter.sub_(gradients[name] + torch.from_numpy(draws))
    return network.weights()


def clipped_gradients(network: RouterNetwork, rows: Rows, longest: float) -> Parameters:
    """Add up the rows' gradients, each shortened to `longest` over all parameters together."""
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    gradients = vmap(grad(_row_loss(network)), in_dims=(None, 0), randomness="different")
    sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
    n_rows = len(rows.features)
    for start in range(0, n_rows, ROWS_AT_ONCE):
        batch = rows.take(torch.arange(start, min(start + ROWS_AT_ONCE, n_rows)))
        found = gradients(parameters, _as_tensors(batch))
        squares = sum(g.flatten(1).square().sum(dim=1) for g in found.values())
        factors = (longest / torch.as_tensor(squares).sqrt().clamp(min=1e-12)).clamp(max=1.0)
        for name, gradient in found.items():
            sums[name] += torch.tensordot(factors, gradient, dims=1)
    return sums


def _row_loss(network: RouterNetwork) -> Callable[[Parameters, tuple[Tensor, ...]], Tensor]:
    def loss(parameters: Parameters, row: tuple[Tensor, ...]) -> Tensor:
        single = Rows(*(tensor.unsqueeze(0) for tensor in row))
        return masked_loss(functional_call(network, parameters, (single.features,)), single)

    return loss


def _as_tensors(rows: Rows) -> tuple[Tensor, ...]:
    return rows.features, rows.quality, rows.cost_z, rows.counts
