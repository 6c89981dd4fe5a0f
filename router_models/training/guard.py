"""Fits the out-of-distribution guard."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models.estimators.arrays import Scaler
from router_models.estimators.guard import Guard
from router_models.statistics import model_means
from router_models.training.kept import with_kept
from router_models.training.kmeans import assign, cluster
from router_models.types import Evaluations, Float32

CLUSTERS = 256
"""Enough to tell held-out tasks from known ones (AUROC 0.90 to 0.96) in 15 µs per query."""

ROWS_PER_CLUSTER = 8
REACH_QUANTILE = 0.9
REACH_PRIOR_ROWS = 20.0
FAMILIAR_QUANTILE = 0.85
NEAREST = 0.1
FAR = 1.3
"""Chosen together on three sets with tasks held out; see docs/explanation/routers.md."""


def fit_guard(evaluations: Evaluations, validation: Evaluations, seed: int) -> Guard:
    """Learn where the train rows lie; `validation` says how far away a familiar query may be.

    Vectors are not standardised: distances then told unseen tasks apart less well (0.82 to 0.89).
    """
    scaler = Scaler.identity(evaluations.embeddings.shape[1])
    unit = scaler.apply_unit(evaluations.embeddings)
    centroids = cluster(unit, cluster_count(len(unit)), seed)
    reach = _reach(*assign(unit, centroids), len(centroids))
    guard = Guard(scaler, centroids, reach, 0.0, 1.0, *model_means(evaluations))
    # A query that was sent a hundred times is one: else it alone could say that all are familiar.
    distinct = np.unique(validation.embeddings, axis=0)
    near = float(np.quantile(guard.distance(distinct), FAMILIAR_QUANTILE))
    return with_kept(with_limits(guard, near), evaluations, seed)


def cluster_count(n_rows: int) -> int:
    """How many clusters the guard makes of so many train rows."""
    return max(1, min(CLUSTERS, n_rows // ROWS_PER_CLUSTER))


def with_limits(guard: Guard, near: float) -> Guard:
    """Let a query be familiar up to `near`, in multiples of reach, and unknown somewhat further."""
    near = max(near, NEAREST)
    return replace(guard, near=near, far=near * FAR)


def shrunk_reach(own: NDArray[Any], rows: NDArray[Any], overall: float) -> Float32:
    """Pull each cluster's own reach towards that of all rows, the more the fewer rows it has.

    Some tasks are worded alike and lie close together, others spread out: one reach for all took
    rows of the latter for unknown, which cost 0.003 of AUC on reasoning_gym.
    """
    reach = (rows * own + REACH_PRIOR_ROWS * overall) / (rows + REACH_PRIOR_ROWS)
    floored: Float32 = np.maximum(reach, 1e-3).astype(np.float32)
    return floored


def _reach(assigned: NDArray[np.intp], nearest: Float32, n_clusters: int) -> Float32:
    """Distance within which most of a cluster's rows lie."""
    overall = float(np.quantile(nearest, REACH_QUANTILE))
    own = [nearest[assigned == index] for index in range(n_clusters)]
    reach = [float(np.quantile(near, REACH_QUANTILE)) if len(near) else overall for near in own]
    return shrunk_reach(np.array(reach), np.array([len(near) for near in own]), overall)
