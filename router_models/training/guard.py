"""Fits the out-of-distribution guard."""

import numpy as np

from router_models.arrays import Scaler
from router_models.guard import Guard
from router_models.training.kmeans import cluster
from router_models.training.statistics import model_means
from router_models.types import Evaluations

CLUSTERS = 256
ROWS_PER_CLUSTER = 16
REACH_QUANTILE = 0.9
FAMILIAR_QUANTILE = 0.95


def fit_guard(
    evaluations: Evaluations, validation: Evaluations, seed: int, far: float = 1.5
) -> Guard:
    """Learn where the train rows lie; `validation` says how far a familiar query may be."""
    scaler = Scaler.fit(evaluations.embeddings)
    unit = scaler.apply_unit(evaluations.embeddings)
    centroids = cluster(unit, max(1, min(CLUSTERS, len(unit) // ROWS_PER_CLUSTER)), seed)
    nearest = (1.0 - unit @ centroids.T).min(axis=1)
    overall = float(np.quantile(nearest, REACH_QUANTILE))
    reach = np.full(len(centroids), overall)
    quality, cost = model_means(evaluations)
    guard = Guard(scaler, centroids, reach.astype(np.float32), 0.0, 1.0, quality, cost)
    near = float(np.quantile(guard.distance(validation.embeddings), FAMILIAR_QUANTILE))
    return Guard(scaler, centroids, guard.reach, near, near * far, quality, cost)
