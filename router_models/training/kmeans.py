"""Fits the K-means router."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans

from router_models.estimators.arrays import SMALLEST_NORM, Scaler
from router_models.estimators.kmeans import CellStatistics, Float64, KMeansEstimator
from router_models.training.settings import KMeansSettings
from router_models.types import Evaluations, Float32

ROWS_AT_ONCE = 50_000
"""Rows compared with the centroids at a time, and from how many on batches of them teach K-means:
its time then no longer grows with the rows times the steps until it settles."""

BATCH_ROWS = 4096


def cluster(rows: Float32, n_clusters: int, seed: int, weights: Float64 | None = None) -> Float32:
    """Cluster rows; centroids of length 1, shape ``(n_clusters, dimension)``.

    Fewer centroids come back where there are fewer distinct rows.

    Args:
        rows: Of length 1, or means of such rows; shape ``(n_rows, dimension)``.
        n_clusters: How many to look for.
        seed: Of the first guesses.
        weights: How many times each row counts; all the same without.
    """
    n_clusters = _distinct(rows, at_most=n_clusters)
    if len(rows) <= ROWS_AT_ONCE:
        means = KMeans(n_clusters, n_init=2, random_state=seed)
    else:
        means = MiniBatchKMeans(n_clusters, n_init=2, random_state=seed, batch_size=BATCH_ROWS)
    means.fit(rows, sample_weight=weights)
    return normalize_rows(means.cluster_centers_)


def _distinct(rows: Float32, *, at_most: int) -> int:
    """Count distinct rows, but no further than `at_most`."""
    seen: set[bytes] = set()
    for row in rows:
        seen.add((row + 0).tobytes())  # zeros are equal, whatever their sign
        if len(seen) == at_most:
            break
    return len(seen)


def normalize_rows(rows: NDArray[np.floating]) -> Float32:
    """Give each row length 1."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Float32 = (rows / np.maximum(norms, SMALLEST_NORM)).astype(np.float32)
    return unit


def assign(unit_rows: Float32, centroids: Float32) -> tuple[NDArray[np.intp], Float32]:
    """Find each row's nearest centroid and the cosine distance to it; shape ``(n_rows,)`` each."""
    nearest = np.empty(len(unit_rows), np.intp)
    distance = np.empty(len(unit_rows), np.float32)
    for start in range(0, len(unit_rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        cosine = unit_rows[part] @ centroids.T
        nearest[part] = cosine.argmax(axis=1)
        # A row on its centroid comes out a rounding error beyond it.
        distance[part] = np.maximum(1.0 - cosine.max(axis=1), 0.0)
    return nearest, distance


def mean_radii(distance_sum: NDArray[Any], sizes: Float64) -> Float32:
    """Mean distance of each cluster's rows; 0 where it has none."""
    radii: Float32 = (distance_sum / np.maximum(sizes, 1.0)).astype(np.float32)
    return radii


def fit_kmeans(evaluations: Evaluations, settings: KMeansSettings, seed: int) -> KMeansEstimator:
    """Cluster the queries, then add up quality and cost per cluster and model."""
    return overlay([_fit_layer(evaluations, layer, seed) for layer in settings.layers])


def overlay(layers: Sequence[KMeansEstimator]) -> KMeansEstimator:
    """Lay clusterings of the same rows over each other: all their clusters are mixed as one's.

    Near a fine cluster, that counts more than the coarse one around it.
    """
    if len(layers) == 1:
        return layers[0]
    sums = [layer.statistics for layer in layers]
    return replace(
        layers[0],
        centroids=np.concatenate([layer.centroids for layer in layers]),
        radii=np.concatenate([layer.radii for layer in layers]),
        sizes=np.concatenate([layer.sizes for layer in layers]),
        statistics=CellStatistics(
            **{i.name: np.concatenate([getattr(s, i.name) for s in sums]) for i in fields(sums[0])}
        ),
    )


def _fit_layer(evaluations: Evaluations, settings: KMeansSettings, seed: int) -> KMeansEstimator:
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
        CellStatistics.gather(
            assigned,
            evaluations.quality,
            evaluations.cost_usd,
            len(centroids),
            evaluations.counts,
        ),
        settings.prior_rows,
        settings.temperature,
    )
