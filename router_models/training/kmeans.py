"""Fits the K-means router."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from router_models.estimators.arrays import SMALLEST_NORM, Scaler
from router_models.estimators.kmeans import CellStatistics, Float64, KMeansEstimator
from router_models.training.settings import KMeansSettings
from router_models.types import Evaluations, Float32


def cluster(rows: Float32, n_clusters: int, seed: int, weights: Float64 | None = None) -> Float32:
    """Cluster rows; centroids of length 1, shape ``(n_clusters, dimension)``.

    Fewer centroids come back where there are fewer distinct rows.

    Args:
        rows: Of length 1, or means of such rows; shape ``(n_rows, dimension)``.
        n_clusters: How many to look for.
        seed: Of the first guesses.
        weights: How many times each row counts; all the same without.
    """
    n_clusters = min(n_clusters, len(np.unique(rows, axis=0)))
    means = KMeans(n_clusters, n_init=2, random_state=seed).fit(rows, sample_weight=weights)
    return normalize_rows(means.cluster_centers_)


def normalize_rows(rows: NDArray[np.floating]) -> Float32:
    """Give each row length 1."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Float32 = (rows / np.maximum(norms, SMALLEST_NORM)).astype(np.float32)
    return unit


def assign(unit_rows: Float32, centroids: Float32) -> tuple[NDArray[np.intp], Float32]:
    """Find each row's nearest centroid and the cosine distance to it; shape ``(n_rows,)`` each."""
    cosine = unit_rows @ centroids.T
    nearest = np.argmax(cosine, axis=1)
    # A row on its centroid comes out a rounding error beyond it.
    distance: Float32 = np.maximum(1.0 - cosine[np.arange(len(unit_rows)), nearest], 0.0)
    return nearest, distance


def mean_radii(distance_sum: NDArray[Any], sizes: Float64) -> Float32:
    """Mean distance of each cluster's rows; 0 where it has none."""
    radii: Float32 = (distance_sum / np.maximum(sizes, 1.0)).astype(np.float32)
    return radii


def fit_kmeans(evaluations: Evaluations, settings: KMeansSettings, seed: int) -> KMeansEstimator:
    """Cluster the queries, then add up quality and cost per cluster and model."""
    embeddings = evaluations.embeddings
    dimension = embeddings.shape[1]
    scaler = Scaler.fit(embeddings) if settings.standardized else Scaler.identity(dimension)
    unit = scaler.apply_unit(embeddings)
    centroids = cluster(unit, settings.n_clusters, seed)
    assigned, distance = assign(unit, centroids)
    sizes = np.bincount(assigned, minlength=len(centroids)).astype(np.float64)
    distance_sum = np.bincount(assigned, distance, len(centroids))
    return KMeansEstimator(
        evaluations.models,
        scaler,
        centroids,
        mean_radii(distance_sum, sizes),
        sizes.astype(np.float32),
        CellStatistics.gather(assigned, evaluations.quality, evaluations.cost_usd, len(centroids)),
        settings.prior_rows,
        settings.temperature,
    )
