"""The K-means router in two passes: clients send centroids, then sums about common ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.learning.centroid_tree import CentroidTree, spread_group_means
from federation.learning.settings import FederatedKMeansSettings
from federation.learning.sums import SHAPE, Float64, Sums
from router_models.errors import InvalidEvaluations
from router_models.estimators.arrays import Scaler, read_array
from router_models.estimators.kmeans import CellStatistics, KMeansEstimator
from router_models.training.kmeans import assign, cluster, mean_radii
from router_models.types import Arrays, Evaluations, Float32

LEAST_ROWS = 10
"""Statistics over fewer rows are never sent: no centroid, no sum."""

PER_CLUSTER = {SHAPE: ("n_clusters",)}
PER_CELL = {SHAPE: ("n_clusters", "n_models")}


@dataclass(frozen=True, slots=True, eq=False)
class Centroids:
    """Where a client's rows lie.

    Attributes:
        centroids: Means of rows of length 1, so no longer than 1; shape ``(n, dimension)``.
        counts: Rows that each is the mean of; shape ``(n,)``.
    """

    centroids: Float32
    counts: Float64

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs; what leaves a client."""
        return {"centroids": self.centroids, "counts": self.counts}

    @classmethod
    def from_arrays(cls, arrays: Arrays, dimension: int) -> "Centroids":
        """Rebuild from `to_arrays`.

        Raises:
            ArtifactRejected: An array is missing, has the wrong shape or is not finite.
        """
        centroids = read_array(arrays, "centroids", (None, dimension))
        return cls(centroids, read_array(arrays, "counts", (len(centroids),)))


def local_centroids(
    unit_rows: Float32, n_clusters: int, seed: int, least_rows: int = LEAST_ROWS
) -> Centroids:
    """Cluster one client's rows; clusters of fewer than `least_rows` join their neighbours.

    A client with fewer rows than that sends nothing.

    Args:
        unit_rows: Of length 1; shape ``(n_rows, dimension)``.
        n_clusters: Most centroids to send.
        seed: Of the first guesses.
        least_rows: Rows that a centroid must stand for.
    """
    n_clusters = min(n_clusters, len(unit_rows) // least_rows)
    if not n_clusters:
        return Centroids(np.empty((0, unit_rows.shape[1]), np.float32), np.empty(0))
    near = unit_rows @ cluster(unit_rows, n_clusters, seed).T
    assigned = np.argmax(near, axis=1)
    counts = np.bincount(assigned, minlength=near.shape[1]).astype(np.float64)
    while counts[smallest := int(counts.argmin())] < least_rows:
        near[:, smallest] = -np.inf
        counts[smallest] = np.inf
        left = np.flatnonzero(assigned == smallest)
        assigned[left] = np.argmax(near[left], axis=1)
        np.add.at(counts, assigned[left], 1)
    kept = np.isfinite(counts)
    means = np.zeros((len(counts), unit_rows.shape[1]))
    np.add.at(means, assigned, unit_rows)
    return Centroids((means[kept] / counts[kept, None]).astype(np.float32), counts[kept])


def merge_centroids(found: Sequence[Centroids], n_clusters: int, seed: int) -> Float32:
    """Cluster all clients' centroids, each by its rows; centroids of length 1.

    Raises:
        InvalidEvaluations: No client sent any.
    """
    if not any(len(client.counts) for client in found):
        raise InvalidEvaluations("no client has enough rows for a centroid")
    points: Float32 = np.concatenate([client.centroids for client in found])
    counts = np.concatenate([client.counts for client in found])
    return cluster(points, n_clusters, seed, counts)


@dataclass(frozen=True, slots=True, eq=False)
class ClusterSums(Sums):
    """Sums about common centroids: per cluster, and per cluster and model.

    Attributes:
        sizes: Rows nearest to each centroid; shape ``(n_clusters,)``.
        distance_sum: Of their cosine distances to it; same shape.
        count: Evaluations, by weight; shape ``(n_clusters, n_models)``, as all that follow.
        quality_sum: Of them.
        quality_squares: Sum of squares.
        cost_sum: In USD.
        cost_squares: Sum of squares.
    """

    sizes: Float64 = field(metadata=PER_CLUSTER)
    distance_sum: Float64 = field(metadata=PER_CLUSTER)
    count: Float64 = field(metadata=PER_CELL)
    quality_sum: Float64 = field(metadata=PER_CELL)
    quality_squares: Float64 = field(metadata=PER_CELL)
    cost_sum: Float64 = field(metadata=PER_CELL)
    cost_squares: Float64 = field(metadata=PER_CELL)

    @classmethod
    def gather(
        cls,
        centroids: Float32,
        scaler: Scaler,
        evaluations: Evaluations,
        least_rows: int = LEAST_ROWS,
    ) -> "ClusterSums":
        """Add up a client's rows.

        Clusters and cells of fewer than `least_rows` are pooled with their neighbours: each
        of them holds its part of a sum over enough rows. See `CentroidTree`.
        """
        assigned, distance = assign(scaler.apply_unit(evaluations.embeddings), centroids)
        n_clusters = len(centroids)
        cells = CellStatistics.gather(
            assigned, evaluations.quality, evaluations.cost_usd, n_clusters, evaluations.counts
        )
        exact = cls(
            np.bincount(assigned, minlength=n_clusters).astype(np.float64),
            np.bincount(assigned, distance, n_clusters).astype(np.float64),
            **cells.to_arrays(),
        )
        return (
            exact
            if least_rows <= 1
            else exact._shared(CentroidTree.from_centroids(centroids), least_rows)
        )

    def _shared(self, branches: CentroidTree, least_rows: int) -> "ClusterSums":
        of_rows = branches.groups(self.sizes, least_rows)
        of_models = [branches.groups(rows, least_rows) for rows in self.count.T]
        cells = {
            name: np.stack(
                [
                    spread_group_means(sums, group)
                    for sums, group in zip(array.T, of_models, strict=True)
                ],
                axis=1,
            )
            for name, array in self.statistics.to_arrays().items()
        }
        return ClusterSums(
            spread_group_means(self.sizes, of_rows),
            spread_group_means(self.distance_sum, of_rows),
            **cells,
        )

    @property
    def statistics(self) -> CellStatistics:
        """The sums per cell, as the estimator keeps them."""
        return CellStatistics(**{i.name: getattr(self, i.name) for i in fields(CellStatistics)})


def to_estimator(
    models: tuple[str, ...],
    scaler: Scaler,
    centroids: Float32,
    sums: ClusterSums,
    settings: FederatedKMeansSettings,
) -> KMeansEstimator:
    """Put the sums of all clients into the estimator that serves."""
    return KMeansEstimator(
        models,
        scaler,
        centroids,
        mean_radii(sums.distance_sum, sums.sizes),
        sums.sizes.astype(np.float32),
        sums.statistics,
        settings.prior_rows,
        settings.temperature,
    )


def scaler_of(settings: FederatedKMeansSettings, measured: Scaler) -> Scaler:
    """Choose what clients scale by before they cluster: `measured`, or nothing."""
    return measured if settings.standardized else Scaler.identity(len(measured.shift))
