"""Fits the K-means router."""

import numpy as np
from sklearn.cluster import KMeans

from router_models.arrays import SMALLEST_NORM, Scaler
from router_models.kmeans import CellStatistics, KMeansEstimator
from router_models.training.settings import KMeansSettings
from router_models.types import Evaluations, Float32


def cluster(unit_rows: Float32, n_clusters: int, seed: int) -> Float32:
    """Cluster rows of length 1; centroids of length 1, shape ``(n_clusters, dimension)``.

    Fewer centroids come back where there are fewer distinct rows.
    """
    n_clusters = min(n_clusters, len(np.unique(unit_rows, axis=0)))
    centroids = KMeans(n_clusters, n_init=2, random_state=seed).fit(unit_rows).cluster_centers_
    norms = np.linalg.norm(centroids, axis=1, keepdims=True)
    unit: Float32 = (centroids / np.maximum(norms, SMALLEST_NORM)).astype(np.float32)
    return unit


def fit_kmeans(evaluations: Evaluations, settings: KMeansSettings, seed: int) -> KMeansEstimator:
    """Cluster the queries, then add up quality and cost per cluster and model."""
    embeddings = evaluations.embeddings
    dimension = embeddings.shape[1]
    scaler = Scaler.fit(embeddings) if settings.standardized else Scaler.identity(dimension)
    unit = scaler.apply_unit(embeddings)
    centroids = cluster(unit, settings.n_clusters, seed)
    cosine = unit @ centroids.T
    assigned = np.argmax(cosine, axis=1)
    sizes = np.bincount(assigned, minlength=len(centroids)).astype(np.float32)
    distance = 1.0 - cosine[np.arange(len(unit)), assigned]
    radii = np.bincount(assigned, distance, len(centroids)) / np.maximum(sizes, 1.0)
    return KMeansEstimator(
        evaluations.models,
        scaler,
        centroids,
        radii.astype(np.float32),
        sizes,
        CellStatistics.gather(assigned, evaluations.quality, evaluations.cost_usd, len(centroids)),
        settings.prior_rows,
        settings.temperature,
    )
