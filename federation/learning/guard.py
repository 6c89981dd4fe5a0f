"""The guard against unfamiliar queries, from centroids and sums of clients.

As `router_models.training.guard`, in three passes: where rows lie, how far they lie from the common
centroids, and how far held-out rows do. A cluster's reach is estimated from the mean and deviation
of its distances: measured on four sets, histograms and the distances themselves gave guards that
were no closer to the central one. What unknown queries keep is not learned: it would take sums per
model over the guard's fine clusters, and the usual shares were as good on average.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final

import numpy as np

from federation.learning.kmeans import LEAST_ROWS, PER_CLUSTER, Centroids, merge_centroids
from federation.learning.statistics import Scales
from federation.learning.sums import SHAPE, Float64, Sums
from router_models.errors import InvalidEvaluations
from router_models.estimators.arrays import Scaler
from router_models.estimators.guard import Guard
from router_models.training.guard import (
    FAMILIAR_QUANTILE,
    REACH_QUANTILE,
    cluster_count,
    shrunk_reach,
    with_limits,
)
from router_models.training.kept import USUAL_KEPT
from router_models.training.kmeans import assign
from router_models.types import Evaluations, Float32

LOCAL_CLUSTERS: Final = 64
"""Most centroids that a client sends for the guard; 128 made no difference."""

DEVIATIONS: Final = NormalDist().inv_cdf(REACH_QUANTILE)

BIN_WIDTH: Final = 0.02
BINS: Final = 256
"""Of distances in multiples of reach; the last bin holds all beyond."""

USUAL_NEAR: Final = 1.1
"""Where no client has held-out rows; eight guards measured had 1.02 to 1.18."""


def scaler_of_guard(dimension: int) -> Scaler:
    """Return the guard's scaler: the identity, which separates tasks better."""
    return Scaler.identity(dimension)


def merge_guard_centroids(found: Sequence[Centroids], seed: int) -> Float32:
    """Cluster all clients' centroids as finely as their rows allow; centroids of length 1.

    Raises:
        InvalidEvaluations: No client sent any.
    """
    rows = sum(int(client.counts.sum()) for client in found)
    return merge_centroids(found, cluster_count(rows), seed)


@dataclass(frozen=True, slots=True, eq=False)
class ReachSums(Sums):
    """Sums over the rows nearest to each centroid; each of shape ``(n_clusters,)``.

    Attributes:
        sizes: Rows.
        distance_sum: Of their cosine distances to it.
        distance_squares: Of the squares.
    """

    sizes: Float64 = field(metadata=PER_CLUSTER)
    distance_sum: Float64 = field(metadata=PER_CLUSTER)
    distance_squares: Float64 = field(metadata=PER_CLUSTER)

    @classmethod
    def gather(
        cls, centroids: Float32, evaluations: Evaluations, least_rows: int = LEAST_ROWS
    ) -> "ReachSums":
        """Add up a client's rows; clusters of fewer than `least_rows` count as empty."""
        embeddings = evaluations.embeddings
        unit = scaler_of_guard(embeddings.shape[1]).apply_unit(embeddings)
        assigned, distance = assign(unit, centroids)
        sizes = np.bincount(assigned, minlength=len(centroids))
        is_kept = np.where(sizes >= least_rows, 1.0, 0.0)
        return cls(
            is_kept * sizes,
            is_kept * np.bincount(assigned, distance, len(centroids)),
            is_kept * np.bincount(assigned, distance.astype(np.float64) ** 2, len(centroids)),
        )

    def reach(self) -> Float32:
        """Distance within which most of a cluster's rows lie, shrunk to that of all rows.

        Raises:
            InvalidEvaluations: No cluster has rows.
        """
        sizes = np.append(self.sizes, self.sizes.sum())
        if not sizes[-1] > 0:
            raise InvalidEvaluations("no client has enough rows near any centroid")
        rows = np.where(sizes > 0, sizes, 1.0)
        mean = np.append(self.distance_sum, self.distance_sum.sum()) / rows
        square = np.append(self.distance_squares, self.distance_squares.sum()) / rows
        reach = mean + DEVIATIONS * np.sqrt(np.maximum(square - mean * mean, 0.0))
        return shrunk_reach(reach[:-1], self.sizes, float(reach[-1]))


@dataclass(frozen=True, slots=True, eq=False)
class DistanceCounts(Sums):
    """How far held-out queries lie from the nearest cluster, in multiples of its reach.

    Attributes:
        rows: Distinct queries, per bin of `BIN_WIDTH`; shape ``(n_bins,)``.
    """

    rows: Float64 = field(metadata={SHAPE: ("n_bins",)})

    @classmethod
    def gather(
        cls, guard: Guard, held_out: Evaluations, least_rows: int = LEAST_ROWS
    ) -> "DistanceCounts":
        """Count a client's held-out queries; fewer than `least_rows` of them count as none.

        One that was sent a hundred times is one: else it alone could say that all are familiar,
        and the client would tell where it lies.
        """
        distance = guard.distance(np.unique(held_out.embeddings, axis=0))
        bins = np.minimum(distance / BIN_WIDTH, BINS - 1).astype(np.intp)
        rows = np.bincount(bins, minlength=BINS).astype(np.float64)
        return cls(rows if len(distance) >= least_rows else np.zeros(BINS))

    def near(self) -> float:
        """Distance up to which a query is familiar; the usual one where nobody has such rows."""
        below = np.cumsum(self.rows)
        wanted = FAMILIAR_QUANTILE * below[-1]
        if not wanted > 0:
            return USUAL_NEAR
        found = int(np.searchsorted(below, wanted))
        inside = 1.0 - (below[found] - wanted) / self.rows[found]
        return float(BIN_WIDTH * (found + inside))


def unlimited_guard(centroids: Float32, reach: Float32, scales: Scales) -> Guard:
    """Put together what is known before held-out rows are counted; it can measure distances."""
    scaler = scaler_of_guard(centroids.shape[1])
    means = scales.quality_means, scales.cost_means_usd
    guard = Guard(scaler, centroids, reach, 0.0, 1.0, *means, *USUAL_KEPT)
    return with_limits(guard, USUAL_NEAR)


def limited_guard(guard: Guard, counts: DistanceCounts) -> Guard:
    """Let held-out rows say what is familiar."""
    return with_limits(guard, counts.near())
