"""The three ways to train on the same rows: each client alone, together but apart, all pooled.

Every arm tries as many settings, on the same validation rows, by the same loss.
"""

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np

from benchmarks.federated_routing.federated import train_together
from benchmarks.federated_routing.protocol import Rows, join
from federation.learning.settings import (
    FederatedKMeansSettings,
    FederatedMlpSettings,
    FederatedSettings,
)
from router_models.training.mlp import CLIP_Z, cost_scale_of
from router_models.training.settings import KMeansSettings, MlpSettings, Settings
from router_models.training.train import fit
from router_models.types import Estimator, Evaluations, Float32, Prediction

LOCAL: Final = "local"
FEDERATED: Final = "federated"
CENTRALISED: Final = "centralised"
ARMS: Final = (LOCAL, FEDERATED, CENTRALISED)
KINDS: Final = ("kmeans", "mlp")

CLUSTERS: Final = (8, 24, 64, 128)
PRIORS: Final = (1.0, 3.0)
WIDTHS: Final = (64, 128)
RATES: Final = (1e-3, 3e-3)
TOGETHER_RATES: Final = (3e-3, 1e-2)
"""A round is one step over all rows, fewer and surer steps than an epoch of batches takes."""

ROUNDS: Final = 30
DROPOUTS: Final = (0.2, 0.4)

AnySettings = Settings | FederatedSettings


def grid_of(arm: str, kind: str) -> list[AnySettings]:
    """The settings that an arm tries; 8 for every arm and kind."""
    together = arm == FEDERATED
    if kind == "kmeans":
        pairs = itertools.product(CLUSTERS, PRIORS)
        if together:
            return [FederatedKMeansSettings(clusters=k, prior_rows=p) for k, p in pairs]
        return [KMeansSettings(n_clusters=k, prior_rows=p) for k, p in pairs]
    rates = TOGETHER_RATES if together else RATES
    nets = list(itertools.product(WIDTHS, rates, DROPOUTS))
    if together:
        return [FederatedMlpSettings(h, r, dropout=d, rounds=ROUNDS) for h, r, d in nets]
    return [MlpSettings(h, r, dropout=d) for h, r, d in nets]


def routers_of(arm: str, rows: Sequence[Rows], settings: AnySettings, seed: int) -> list[Estimator]:
    """The router that each client ends up with; one for all unless local."""
    if isinstance(settings, FederatedSettings):
        return [train_together(rows, settings, seed).estimator] * len(rows)
    if arm == CENTRALISED:
        everything = pooled(rows)
        return [fit(everything.train, everything.validation, settings, seed)] * len(rows)
    return [fit(own.train, own.validation, settings, seed) for own in rows]


def pooled(rows: Sequence[Rows]) -> Rows:
    """All clients' rows under each other."""
    return Rows(join(own.train for own in rows), join(own.validation for own in rows))


def tune(arm: str, kind: str, rows: Sequence[Rows], seed: int) -> AnySettings:
    """Choose the settings whose routers lose least on all clients' validation rows.

    Local training chooses one setting for all clients, as federated training does.
    """
    grid = grid_of(arm, kind)
    losses = [validation_loss(routers_of(arm, rows, each, seed), rows) for each in grid]
    return grid[int(np.argmin(losses))]


def validation_loss(routers: Sequence[Estimator], rows: Sequence[Rows]) -> float:
    """Mean loss per evaluation, each client's router on its own validation rows.

    The paper's loss: squared error of quality plus smooth L1 of z-scored log cost. A log holds
    one model per query, so what a router would have gained cannot be tuned for.
    """
    cost_scale = cost_scale_of(pooled(rows).train)
    total, count = 0.0, 0
    for router, own in zip(routers, rows, strict=True):
        prediction = router.predict(own.validation.embeddings)
        total += _loss_sum(prediction, own.validation, cost_scale)
        count += int(np.isfinite(own.validation.quality).sum())
    return total / count


def _loss_sum(prediction: Prediction, truth: Evaluations, cost_scale: Float32) -> float:
    answered = np.isfinite(truth.quality)
    errors = (prediction.quality - truth.quality)[answered] ** 2
    predicted, true = (
        np.clip((np.log1p(cost) - cost_scale[0]) / cost_scale[1], -CLIP_Z, CLIP_Z)[answered]
        for cost in (prediction.cost_usd, truth.cost_usd)
    )
    off = np.abs(predicted - true)
    smooth = np.where(off < 1.0, 0.5 * off * off, off - 0.5)
    return float((errors + smooth).sum(dtype=np.float64))
