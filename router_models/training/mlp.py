"""Trains the MLP router with torch; what comes out predicts with numpy alone."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from router_models.estimators.arrays import Scaler
from router_models.estimators.mlp import MlpEstimator
from router_models.statistics import cost_floor, model_means
from router_models.training.mlp_weights import Weights, build_estimator, logit
from router_models.training.settings import MlpSettings
from router_models.types import Evaluations, Float32

CLIP_Z = 3.0
MAX_GRADIENT_NORM = 1.0


@contextmanager
def single_threaded(seed: int) -> Iterator[None]:
    """Seed torch and keep it on one thread, so that the same seed gives the same bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


class RouterNetwork(nn.Module):
    """Trunk [linear, layer norm, GELU, dropout] x 2 and linear heads; arXiv 2601.22318."""

    def __init__(self, dimension: int, n_models: int, hidden: int, dropout: float) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for width in (dimension, hidden):
            blocks += [
                nn.Linear(width, hidden),
                nn.LayerNorm(hidden),
                nn.GELU(approximate="tanh"),
                nn.Dropout(dropout),
            ]
        self.trunk = nn.Sequential(*blocks)
        self.heads = nn.Linear(hidden, 2 * n_models)

    @classmethod
    def from_weights(cls, weights: Weights, dropout: float = 0.0) -> Self:
        """Rebuild the network that has these weights."""
        hidden, n_heads = weights["head_weight"].shape
        network = cls(weights["trunk.0.weight"].shape[0], n_heads // 2, hidden, dropout)
        for name, tensor in network._named_views():
            tensor.copy_(torch.tensor(weights[name]))
        return network

    def forward(self, rows: Tensor) -> Tensor:
        """Quality logits, then z-scored log costs; shape ``(n_rows, 2 * n_models)``."""
        heads: Tensor = self.heads(self.trunk(rows))
        return heads

    def init_quality_bias(self, quality_means: Float32) -> None:
        """Set each quality head's bias so that it starts at its model's mean."""
        with torch.no_grad():
            self.heads.bias[: len(quality_means)] = torch.from_numpy(logit(quality_means))

    def weights(self) -> dict[str, Float32]:
        """Copy the weights out, as `from_weights` takes them."""
        return {n: np.array(tensor.numpy(), order="C") for n, tensor in self._named_views()}

    def _named_views(self) -> Iterator[tuple[str, Tensor]]:
        modules = list(self.trunk)
        for index, (linear, norm) in enumerate(zip(modules[0::4], modules[1::4], strict=True)):
            yield f"trunk.{index}.weight", _view(linear.weight).T
            yield f"trunk.{index}.bias", _view(linear.bias)
            yield f"trunk.{index}.gain", _view(norm.weight)
            yield f"trunk.{index}.offset", _view(norm.bias)
        yield "head_weight", _view(self.heads.weight).T
        yield "head_bias", _view(self.heads.bias)


def _view(parameter: object) -> Tensor:
    assert isinstance(parameter, Tensor)  # noqa: S101
    return parameter.detach()


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Evaluations as tensors, NaN replaced by 0; `counts` is 0 there, and elsewhere the weight."""

    features: Tensor
    quality: Tensor
    cost_z: Tensor
    counts: Tensor

    @classmethod
    def from_evaluations(
        cls, evaluations: Evaluations, scaler: Scaler, cost_scale: Float32
    ) -> "Rows":
        """Scale features and costs as measured on train rows."""
        answered = np.isfinite(evaluations.quality)
        cost_z = (np.log1p(evaluations.cost_usd) - cost_scale[0]) / cost_scale[1]
        cost_z = np.clip(np.where(answered, cost_z, 0.0), -CLIP_Z, CLIP_Z)
        return cls(
            torch.from_numpy(scaler.apply(evaluations.embeddings).astype(np.float32)),
            torch.from_numpy(np.where(answered, evaluations.quality, 0.0).astype(np.float32)),
            torch.from_numpy(cost_z.astype(np.float32)),
            torch.from_numpy(evaluations.counts),
        )

    def take(self, rows: Tensor) -> "Rows":
        """Keep the rows at these indices."""
        return Rows(self.features[rows], self.quality[rows], self.cost_z[rows], self.counts[rows])


Loss = Callable[[Tensor, Rows], Tensor]


def masked_loss(heads: Tensor, rows: Rows) -> Tensor:
    """Mean squared error of quality plus smooth L1 of cost, over answered pairs, by weight."""
    logits, cost_z = heads.chunk(2, dim=1)
    quality_error = (torch.sigmoid(logits) - rows.quality) ** 2
    cost_error = nn.functional.smooth_l1_loss(cost_z, rows.cost_z, reduction="none")
    weight = rows.counts / rows.counts.sum().clamp(min=1.0)
    return ((quality_error + cost_error) * weight).sum()


def cost_scale_of(evaluations: Evaluations) -> Float32:
    """Mean and deviation of log1p(USD) per model, by weight; shape ``(2, n_models)``."""
    counts = evaluations.counts.astype(np.float64)
    total = counts.sum(axis=0)
    answered = total > 0
    rows = np.where(answered, total, 1.0)
    logs = np.log1p(np.where(counts > 0, evaluations.cost_usd, 0.0).astype(np.float64))
    mean = (counts * logs).sum(axis=0) / rows
    spread = np.sqrt((counts * (logs - mean) ** 2).sum(axis=0) / rows)
    mean = np.where(answered, mean, np.log1p(model_means(evaluations)[1]))
    return np.stack([mean, np.maximum(spread, 1e-9)]).astype(np.float32)


def fit_mlp(
    evaluations: Evaluations, validation: Evaluations, settings: MlpSettings, seed: int
) -> MlpEstimator:
    """Train until the loss on `validation` stops falling, and keep the best epoch."""
    dimension, n_models = evaluations.embeddings.shape[1], len(evaluations.models)
    scaler, cost_scale = Scaler.fit(evaluations.embeddings), cost_scale_of(evaluations)
    train = Rows.from_evaluations(evaluations, scaler, cost_scale)
    held_out = Rows.from_evaluations(validation, scaler, cost_scale)
    with single_threaded(seed):
        network = RouterNetwork(dimension, n_models, settings.hidden, settings.dropout)
        network.init_quality_bias(model_means(evaluations)[0])
        weights = _descend(network, train, held_out, settings)
    return build_estimator(evaluations.models, weights, scaler, cost_scale, cost_floor(evaluations))


def _descend(
    network: RouterNetwork, train: Rows, held_out: Rows, settings: MlpSettings
) -> dict[str, Float32]:
    optimizer = optimizer_of(network, settings.learning_rate, settings.weight_decay)
    best, best_loss, since = network.weights(), math.inf, 0
    for _ in range(settings.max_epochs):
        run_epoch(network, optimizer, train, settings.batch_size)
        loss = mean_loss(network, held_out)
        if loss < best_loss:
            best, best_loss, since = network.weights(), loss, 0
        else:
            since += 1
        if since >= settings.patience:
            break
    return best


def optimizer_of(
    network: RouterNetwork, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """AdamW over the parameters that are not frozen."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(learning, lr=learning_rate, weight_decay=weight_decay)


def run_epoch(
    network: RouterNetwork,
    optimizer: torch.optim.Optimizer,
    train: Rows,
    batch_size: int,
    loss: Loss = masked_loss,
) -> None:
    """Take one step per batch, every row once, in random order."""
    network.train()
    n_rows = len(train.features)
    sizes = [min(batch_size, n_rows - start) for start in range(0, n_rows, batch_size)]
    for batch in torch.randperm(n_rows).split_with_sizes(sizes):
        rows = train.take(batch)
        optimizer.zero_grad()
        torch.autograd.backward(loss(network(rows.features), rows))
        nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()


def mean_loss(network: RouterNetwork, held_out: Rows) -> float:
    """Mean loss per answered pair, without dropout."""
    network.eval()
    with torch.no_grad():
        return float(masked_loss(network(held_out.features), held_out))
