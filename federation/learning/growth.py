"""New models and new clients join a router that is already there; arXiv 2601.22318.

K-means grows exactly: the centroids stay, sums are added. The MLP learns heads for new models with
everything else frozen, and learns from new clients alone while held close to what it knew.
"""

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from federation.learning.adam import descend
from federation.learning.kmeans import ClusterSums
from federation.learning.mlp import HEADS, to_estimator
from federation.learning.settings import FederatedMlpSettings
from federation.learning.statistics import RowSums, Scales
from router_models.guard import Guard
from router_models.kmeans import KMeansEstimator
from router_models.mlp import MlpEstimator
from router_models.training.kmeans import mean_radii
from router_models.training.mlp import Weights, logit
from router_models.types import Arrays, Float32

NEW_MODEL_ROUNDS: Final = 40
NEW_MODEL_RATE: Final = 1e-2
"""Ten rounds of the paper's, in each of which a client of 40 calibration rows takes one step, left
new heads 0.03 of common AUC behind a full retrain; these are within 0.002 of it on two sets."""

NEW_CLIENT_ROUNDS: Final = 10
NEW_CLIENT_RATE: Final = 5e-4
"""The paper stops after two rounds; ten were better on old and new clients' rows alike."""


def settings_for_new_models(settings: FederatedMlpSettings) -> FederatedMlpSettings:
    """Train heads alone: there is nothing to forget, so steps may be long."""
    return replace(
        settings,
        adam_at="coordinator",
        learning_rate=NEW_MODEL_RATE,
        rounds=NEW_MODEL_ROUNDS,
    )


def settings_for_new_clients(settings: FederatedMlpSettings) -> FederatedMlpSettings:
    """Learn from new clients slowly, with the router that they join as their teacher."""
    return replace(
        settings, adam_at="clients", learning_rate=NEW_CLIENT_RATE, rounds=NEW_CLIENT_ROUNDS
    )


def add_models(
    router: KMeansEstimator, models: tuple[str, ...], sums: ClusterSums
) -> KMeansEstimator:
    """Append models; `sums` are theirs about the router's own centroids, over calibration rows."""
    wider = router.statistics.beside(sums.statistics)
    return router.with_statistics(router.models + models, wider)


def add_clients(router: KMeansEstimator, sums: ClusterSums) -> KMeansEstimator:
    """Join new clients' rows; `sums` are theirs about the router's own centroids."""
    sizes = router.sizes + sums.sizes
    return replace(
        router,
        sizes=sizes.astype(np.float32),
        radii=mean_radii(router.radii * router.sizes + sums.distance_sum, sizes),
        statistics=router.statistics + sums.statistics,
    )


def scales_of(router: MlpEstimator, guard: Guard) -> Scales:
    """Read back what the router's clients scaled their rows by."""
    return Scales(
        router.scaler,
        router.cost_scale,
        router.cost_floor_usd,
        guard.quality_means,
        guard.cost_means_usd,
    )


def weights_of(router: MlpEstimator) -> Weights:
    """Read back the common weights; a new client's start and its teacher's."""
    names = ("trunk.", "head_")
    return {n: array for n, array in router.to_arrays().items() if n.startswith(names)}


def scales_of_new_models(router: MlpEstimator, sums: RowSums) -> Scales:
    """Measure new models' costs on calibration rows; features are scaled as they were.

    Raises:
        InvalidEvaluations: No client has such a row.
    """
    return replace(sums.scales(), scaler=router.scaler)


def new_heads(router: MlpEstimator, scales: Scales) -> Weights:
    """Begin heads for new models on the router's trunk; train them with the trunk frozen.

    They begin at their models' means for every query: there is little to unlearn them with.

    Args:
        router: What they join.
        scales: Of the new models alone, from `scales_of_new_models`.
    """
    trunk = {n: array for n, array in weights_of(router).items() if n.startswith("trunk.")}
    quality = logit(scales.quality_means)
    bias = np.concatenate([quality, np.zeros_like(quality)])
    return {
        **trunk,
        "head_weight": np.zeros((len(router.head_weight), len(bias)), np.float32),
        "head_bias": bias,
    }


def descend_heads(
    heads: Weights, averaged: Weights, moments: Arrays, settings: FederatedMlpSettings
) -> tuple[dict[str, Float32], dict[str, NDArray[Any]]]:
    """Take one step of the coordinator's Adam with the heads; the trunk does not even decay.

    Args:
        heads: Weights that clients were sent.
        averaged: Of what they sent back, from `average`.
        moments: As the step before returned them; nothing before the first.
        settings: From `settings_for_new_models`.
    """
    learning = {name: heads[name] for name in HEADS}
    gradient = {name: array - averaged[name] for name, array in learning.items()}
    after, moments = descend(
        learning, gradient, moments, settings.learning_rate, settings.weight_decay
    )
    return {**heads, **after}, moments


def join_models(
    router: MlpEstimator, models: tuple[str, ...], heads: Weights, scales: Scales
) -> MlpEstimator:
    """Append models with trained heads; the router's own predictions stay as they are."""
    joined = to_estimator(heads, models, scales)
    return MlpEstimator(
        router.models + models,
        router.scaler,
        router.trunk,
        _beside(router.head_weight, joined.head_weight),
        _beside(router.head_bias, joined.head_bias),
        np.concatenate([router.cost_scale, joined.cost_scale], axis=1),
        np.concatenate([router.cost_floor_usd, joined.cost_floor_usd]),
    )


def _beside(old: Float32, new: Float32) -> Float32:
    """Join heads: quality of old and new models, then cost of both."""
    (old_quality, old_cost), (new_quality, new_cost) = (
        np.split(heads, 2, axis=-1) for heads in (old, new)
    )
    return np.concatenate([old_quality, new_quality, old_cost, new_cost], axis=-1)


def widen_guard(guard: Guard, scales: Scales) -> Guard:
    """Tell the guard the means of models that joined."""
    return replace(
        guard,
        quality_means=np.concatenate([guard.quality_means, scales.quality_means]),
        cost_means_usd=np.concatenate([guard.cost_means_usd, scales.cost_means_usd]),
    )
