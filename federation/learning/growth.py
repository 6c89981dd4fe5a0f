"""New models and new clients join a router that is already there; arXiv 2601.22318.

K-means grows exactly: the centroids stay, sums are added. The MLP learns heads for new models with
everything else frozen, and learns from new clients alone while held close to what it knew.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from federation.learning.kmeans import ClusterSums
from federation.learning.mlp import to_estimator
from federation.learning.settings import FederatedMlpSettings
from federation.learning.statistics import Scales
from router_models.estimators.guard import Guard
from router_models.estimators.kmeans import KMeansEstimator
from router_models.estimators.mlp import MlpEstimator
from router_models.training.kmeans import mean_radii
from router_models.training.mlp_weights import Weights, logit
from router_models.types import Float32

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
    wider = router.statistics.with_models(sums.statistics)
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


def weights_of(router: MlpEstimator) -> Weights:
    """Read back the common weights; a new client's start and its teacher's."""
    names = ("trunk.", "head_")
    return {n: array for n, array in router.to_arrays().items() if n.startswith(names)}


def scales_of_new_models(router: KMeansEstimator | MlpEstimator, measured: Scales) -> Scales:
    """Scale new models' costs as measured on calibration rows, and features as the router does."""
    return replace(measured, scaler=router.scaler)


def scales_of_new_clients(router: MlpEstimator, measured: Scales) -> Scales:
    """Scale new clients' rows as the router's own were, so that its weights mean the same."""
    return replace(
        measured,
        scaler=router.scaler,
        cost_scale=router.cost_scale,
        cost_floor_usd=router.cost_floor_usd,
    )


def new_heads(router: MlpEstimator, scales: Scales) -> Weights:
    """Begin heads for new models on the router's trunk; train them with the trunk frozen.

    They begin at their models' means for every query: there is little to unlearn them with. Only
    they may move: a coordinator's Adam would let even a frozen trunk decay.

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


def extend_guard(guard: Guard, centroids: Float32, reach: Float32) -> Guard:
    """Make familiar what lies near new clients' rows; nothing that was becomes less so.

    Args:
        guard: Of the router that they join; its limits and the models' means stay.
        centroids: Of the new clients' rows.
        reach: Of each of these.
    """
    return replace(
        guard,
        centroids=np.concatenate([guard.centroids, centroids]),
        reach=np.concatenate([guard.reach, reach]),
    )
