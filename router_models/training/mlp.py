"""Trains the MLP router with torch; what comes out predicts with numpy alone."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from router_models.arrays import Scaler
from router_models.mlp import Layer, MlpEstimator
from router_models.training.settings import MlpSettings
from router_models.training.statistics import cost_floor, model_means
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

    def __init__(self, dimension: int, n_models: int, settings: MlpSettings) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for width in (dimension, settings.hidden):
            blocks += [
                nn.Linear(width, settings.hidden),
                nn.LayerNorm(settings.hidden),
                nn.GELU(approximate="tanh"),
                nn.Dropout(settings.dropout),
            ]
        self.trunk = nn.Sequential(*blocks)
        self.heads = nn.Linear(settings.hidden, 2 * n_models)

    def forward(self, rows: Tensor) -> Tensor:
        """Quality logits, then z-scored log costs; shape ``(n_rows, 2 * n_models)``."""
        heads: Tensor = self.heads(self.trunk(rows))
        return heads


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Evaluations as tensors, NaN replaced by 0 and masked."""

    features: Tensor
    quality: Tensor
    cost_z: Tensor
    answered: Tensor

    @classmethod
    def of(cls, evaluations: Evaluations, scaler: Scaler, cost_scale: Float32) -> "Rows":
        """Scale features and costs as measured on train rows."""
        answered = np.isfinite(evaluations.quality)
        cost_z = (np.log1p(evaluations.cost_usd) - cost_scale[0]) / cost_scale[1]
        cost_z = np.clip(np.where(answered, cost_z, 0.0), -CLIP_Z, CLIP_Z)
        return cls(
            torch.from_numpy(scaler.apply(evaluations.embeddings).astype(np.float32)),
            torch.from_numpy(np.where(answered, evaluations.quality, 0.0).astype(np.float32)),
            torch.from_numpy(cost_z.astype(np.float32)),
            torch.from_numpy(answered.astype(np.float32)),
        )

    def take(self, rows: Tensor) -> "Rows":
        """Keep the rows at these indices."""
        return Rows(self.features[rows], self.quality[rows], self.cost_z[rows], self.answered[rows])


def masked_loss(heads: Tensor, rows: Rows) -> Tensor:
    """Mean squared error of quality plus smooth L1 of cost, over answered pairs only."""
    logits, cost_z = heads.chunk(2, dim=1)
    quality_error = (torch.sigmoid(logits) - rows.quality) ** 2
    cost_error = nn.functional.smooth_l1_loss(cost_z, rows.cost_z, reduction="none")
    weight = rows.answered / rows.answered.sum().clamp(min=1.0)
    return ((quality_error + cost_error) * weight).sum()


def cost_scale_of(evaluations: Evaluations) -> Float32:
    """Mean and deviation of log1p(USD) per model; shape ``(2, n_models)``."""
    answered = np.isfinite(evaluations.cost_usd)
    logs = np.log1p(np.where(answered, evaluations.cost_usd, 0.0).astype(np.float64))
    count = np.maximum(answered.sum(axis=0), 1)
    mean = np.where(answered, logs, 0.0).sum(axis=0) / count
    spread = np.sqrt((np.where(answered, logs - mean, 0.0) ** 2).sum(axis=0) / count)
    mean = np.where(answered.any(axis=0), mean, np.log1p(model_means(evaluations)[1]))
    return np.stack([mean, np.maximum(spread, 1e-9)]).astype(np.float32)


def fit_mlp(
    evaluations: Evaluations, validation: Evaluations, settings: MlpSettings, seed: int
) -> MlpEstimator:
    """Train until the loss on `validation` stops falling, and keep the best epoch."""
    scaler, cost_scale = Scaler.fit(evaluations.embeddings), cost_scale_of(evaluations)
    train = Rows.of(evaluations, scaler, cost_scale)
    held_out = Rows.of(validation, scaler, cost_scale)
    with single_threaded(seed):
        network = RouterNetwork(evaluations.embeddings.shape[1], len(evaluations.models), settings)
        with torch.no_grad():
            means = model_means(evaluations)[0].clip(0.01, 0.99)
            network.heads.bias[: len(means)] = torch.from_numpy(np.log(means / (1.0 - means)))
        _descend(network, train, held_out, settings)
    return export(network, evaluations.models, scaler, cost_scale, cost_floor(evaluations))


def _descend(network: RouterNetwork, train: Rows, held_out: Rows, settings: MlpSettings) -> None:
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    sizes = _batch_sizes(len(train.features), settings.batch_size)
    best, best_loss, since = _copy(network), math.inf, 0
    for _ in range(settings.max_epochs):
        network.train()
        for batch in torch.randperm(len(train.features)).split_with_sizes(sizes):
            rows = train.take(batch)
            optimizer.zero_grad()
            torch.autograd.backward(masked_loss(network(rows.features), rows))
            nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
        network.eval()
        with torch.no_grad():
            loss = float(masked_loss(network(held_out.features), held_out))
        if loss < best_loss:
            best, best_loss, since = _copy(network), loss, 0
        else:
            since += 1
        if since >= settings.patience:
            break
    network.load_state_dict(best)


def _batch_sizes(n_rows: int, batch_size: int) -> list[int]:
    return [min(batch_size, n_rows - start) for start in range(0, n_rows, batch_size)]


def _copy(network: RouterNetwork) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def export(
    network: RouterNetwork,
    models: tuple[str, ...],
    scaler: Scaler,
    cost_scale: Float32,
    cost_floor_usd: Float32,
) -> MlpEstimator:
    """Copy the weights into the numpy estimator."""
    modules = list(network.trunk)
    trunk = []
    for linear, norm in zip(modules[0::4], modules[1::4], strict=True):
        weight = np.ascontiguousarray(_numpy(linear.weight).T)
        trunk.append(Layer(weight, _numpy(linear.bias), _numpy(norm.weight), _numpy(norm.bias)))
    heads = np.ascontiguousarray(_numpy(network.heads.weight).T)
    return MlpEstimator(
        models, scaler, tuple(trunk), heads, _numpy(network.heads.bias), cost_scale, cost_floor_usd
    )


def _numpy(tensor: object) -> Float32:
    assert isinstance(tensor, Tensor)  # noqa: S101
    array: Float32 = tensor.detach().numpy().copy()
    return array
