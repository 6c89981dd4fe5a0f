"""The K-means router: statistics per cluster and model, mixed by how near the clusters are."""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import UNSEEN_VARIANCE, Scaler, read_array
from router_models.types import Arrays, Float32, Prediction

Float64 = NDArray[np.float64]

EFFECT_ROWS = 3.0
"""How many rows it takes to believe half of what sets a cluster or a model apart."""

SWEEPS = 5
"""Enough for both to settle."""

SMALLEST_USD = 1e-12

ROWS_AT_ONCE = 20_000
"""Rows added up at a time, so that a large log takes no more memory than a small one."""


@dataclass(frozen=True, slots=True, eq=False)
class CellStatistics:
    """Sums per (cluster, model): additive, so clients and models join and leave exactly.

    An answer of a weight adds that much of a row. Every array has shape
    ``(n_clusters, n_models)``.
    """

    quality_sum: Float64
    quality_squares: Float64
    cost_sum: Float64
    cost_squares: Float64
    count: Float64

    @classmethod
    def gather(
        cls,
        clusters: NDArray[np.intp],
        quality: Float32,
        cost_usd: Float32,
        n_clusters: int,
        counts: Float32 | None = None,
    ) -> "CellStatistics":
        """Add up evaluations by cluster; NaN marks a model that did not answer the query.

        Args:
            clusters: Of each query.
            quality: Of each answer.
            cost_usd: Of each answer.
            n_clusters: How many there are.
            counts: What each answer counts for (`Evaluations.counts`); None where each is one.
        """
        sums = np.zeros((len(fields(cls)), n_clusters, quality.shape[1]))
        for start in range(0, len(clusters), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            members = np.zeros((n_clusters, len(clusters[part])))
            members[clusters[part], np.arange(members.shape[1])] = 1.0
            answered = np.isfinite(quality[part])
            known_quality = np.where(answered, quality[part], 0.0).astype(np.float64)
            known_cost = np.where(answered, cost_usd[part], 0.0).astype(np.float64)
            of_row = (known_quality, known_quality**2, known_cost, known_cost**2, answered)
            count = answered if counts is None else counts[part]
            sums += np.stack([members @ (figures * count) for figures in of_row])
        return cls(*sums)

    @classmethod
    def from_arrays(cls, arrays: Arrays, shape: tuple[int, int]) -> "CellStatistics":
        """Rebuild from `to_arrays`.

        Raises:
            ArtifactRejected: An array is missing or has the wrong shape.
        """
        return cls(**{item.name: read_array(arrays, item.name, shape) for item in fields(cls)})

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def __add__(self, other: "CellStatistics") -> "CellStatistics":
        """Join another client's rows."""
        return CellStatistics(
            **{i.name: getattr(self, i.name) + getattr(other, i.name) for i in fields(self)}
        )

    def __sub__(self, other: "CellStatistics") -> "CellStatistics":
        """Take a client's rows out again."""
        return CellStatistics(
            **{i.name: getattr(self, i.name) - getattr(other, i.name) for i in fields(self)}
        )

    def model_means(self) -> tuple[Float64, Float64]:
        """Each model's mean quality and cost; shape ``(n_models,)`` each.

        A model without rows counts as an average one at the highest cost seen: unknown is not free.
        """
        rows = self.count.sum(axis=0)
        seen = rows > 1e-9
        safe = np.where(seen, rows, 1.0)
        quality, cost = self.quality_sum.sum(axis=0) / safe, self.cost_sum.sum(axis=0) / safe
        if seen.any():
            quality = np.where(seen, quality, quality[seen].mean())
            cost = np.where(seen, cost, cost[seen].max())
        return quality, cost

    def prior_means(self) -> tuple[Float64, Float64]:
        """Prior mean quality and cost of each cell, without its own rows; shapes as the fields'.

        Where a log holds one model per query, a model's mean says as much about what it was asked
        as about the model. So clusters differ by an ease, added to quality, and by a dearness that
        multiplies cost, and models are compared where that is taken off. Fitted in turns, each
        shrunk by `EFFECT_ROWS`. On sparse logs of ten clients of one task each it was worth 0.03 to
        0.07 of AUC (llmrouter_ulab, alpha 0.03) over shrinking to the models' means.
        """
        quality_mean, cost_mean = quality, cost = self.model_means()
        rows, asked = self.count.sum(axis=1), self.count.sum(axis=0)
        anchor = max(EFFECT_ROWS * float(cost_mean.mean()), SMALLEST_USD)
        for _ in range(SWEEPS):
            ease = (self.quality_sum - self.count * quality).sum(axis=1) / (rows + EFFECT_ROWS)
            earned = self.quality_sum.sum(axis=0) - ease @ self.count
            quality = (earned + EFFECT_ROWS * quality_mean) / (asked + EFFECT_ROWS)
            dearness = (self.cost_sum.sum(axis=1) + anchor) / (self.count @ cost + anchor)
            charged = self.cost_sum.sum(axis=0) + EFFECT_ROWS * cost_mean
            cost = charged / (dearness @ self.count + EFFECT_ROWS)
        return np.clip(quality + ease[:, None], 0.0, 1.0), cost * dearness[:, None]

    def select_models(self, indices: NDArray[np.intp]) -> "CellStatistics":
        """Keep the models at `indices`, in that order."""
        return CellStatistics(**{i.name: getattr(self, i.name)[:, indices] for i in fields(self)})

    def select_clusters(self, kept: NDArray[np.bool_]) -> "CellStatistics":
        """Keep the clusters that are marked."""
        return CellStatistics(**{i.name: getattr(self, i.name)[kept] for i in fields(self)})

    def with_models(self, other: "CellStatistics") -> "CellStatistics":
        """Append another set of models, measured on the same clusters."""
        return CellStatistics(
            **{
                i.name: np.concatenate([getattr(self, i.name), getattr(other, i.name)], axis=1)
                for i in fields(self)
            }
        )


@dataclass(slots=True, eq=False)
class KMeansEstimator:
    """Mixes what was measured in the clusters near the query.

    Cells are shrunk to what `CellStatistics.expected` says, never the paper's 0 and 1e6 for empty
    ones. The soft assignment is ProxRouter's tilt: ``w ~ (size / radius) * exp(-distance / tau)``.

    Attributes:
        models: Names of the columns.
        scaler: Applied to a query's vector before its length is made 1.
        centroids: Of length 1; shape ``(n_clusters, dimension)``.
        radii: Mean cosine distance of a cluster's train rows; shape ``(n_clusters,)``.
        sizes: Train rows per cluster; same shape.
        statistics: Sums per cluster and model.
        prior_rows: How many rows the expected value counts for in each cell (k0).
        temperature: tau, in cosine distance.
        tilt: Log of size over radius, shape ``(n_clusters,)``.
        tables: Shrunk quality, then cost, per cluster; shape ``(n_clusters, 2 * n_models)``.
    """

    kind: ClassVar[str] = "kmeans"

    models: tuple[str, ...]
    scaler: Scaler
    centroids: Float32
    radii: Float32
    sizes: Float32
    statistics: CellStatistics
    prior_rows: float = 10.0
    temperature: float = 0.05
    dimension: int = field(init=False)
    tilt: Float32 = field(init=False, repr=False)
    tables: Float32 = field(init=False, repr=False)
    _stderr: Float32 | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        """Turn the sums into the two tables that `predict` mixes."""
        self.dimension = self.centroids.shape[1]
        weight = np.maximum(self.sizes, 1e-6) / np.maximum(self.radii, 1e-3)
        self.tilt = np.log(weight).astype(np.float32)
        s = self.statistics
        cells = s.count + self.prior_rows
        expected_quality, expected_cost = s.prior_means()
        quality = (s.quality_sum + self.prior_rows * expected_quality) / cells
        cost = (s.cost_sum + self.prior_rows * expected_cost) / cells
        self.tables = np.concatenate(
            [np.clip(quality, 0.0, 1.0), np.maximum(cost, 0.0)], axis=1
        ).astype(np.float32)

    def weights(self, embeddings: Float32) -> Float32:
        """Say how much each cluster counts for each row; rows sum to 1.

        Returns:
            Shape ``(n_queries, n_clusters)``.
        """
        near = self.scaler.apply_unit(embeddings) @ self.centroids.T
        near -= np.float32(1.0)
        near /= np.float32(self.temperature)
        near += self.tilt
        near -= near.max(axis=1, keepdims=True)
        weights: Float32 = np.exp(near, out=near)
        weights /= weights.sum(axis=1, keepdims=True)
        return weights

    def assign(self, embeddings: Float32) -> NDArray[np.intp]:
        """Index of the nearest centroid for each row; what federated clients count rows under."""
        nearest: NDArray[np.intp] = np.argmax(
            self.scaler.apply_unit(embeddings) @ self.centroids.T, axis=1
        )
        return nearest

    def predict(self, embeddings: Float32) -> Prediction:
        """Predict for each row of `embeddings`, shape ``(n_queries, dimension)``."""
        mixed = self.weights(embeddings) @ self.tables
        n_models = len(self.models)
        return Prediction(mixed[:, :n_models], mixed[:, n_models:])

    def quality_stderr(self, embeddings: Float32) -> Float32:
        """Say how far each predicted quality may be off, shape ``(n_queries, n_models)``.

        Cells may be off by chance, all in one direction where clusters hold the same rows; and the
        query may belong to any of the clusters that are mixed.
        """
        if self._stderr is None:
            self._stderr = np.sqrt(mean_variance(self.statistics, self.prior_rows))
        quality = self.tables[:, : len(self.models)]
        weights = self.weights(embeddings)
        mixed = weights @ quality
        between = np.maximum(weights @ (quality * quality) - mixed * mixed, 0.0)
        stderr: Float32 = np.sqrt((weights @ self._stderr) ** 2 + between)
        return stderr

    def with_statistics(self, models: tuple[str, ...], statistics: CellStatistics) -> Self:
        """Return the same clusters with other sums: rows or models joined or left."""
        return type(self)(
            models,
            self.scaler,
            self.centroids,
            self.radii,
            self.sizes,
            statistics,
            self.prior_rows,
            self.temperature,
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs, as named arrays."""
        return {
            **self.scaler.to_arrays(),
            **self.statistics.to_arrays(),
            "centroids": self.centroids,
            "radii": self.radii,
            "sizes": self.sizes,
            "settings": np.array([self.prior_rows, self.temperature]),
        }

    @classmethod
    def from_arrays(cls, models: tuple[str, ...], arrays: Arrays) -> Self:
        """Rebuild from `to_arrays`.

        Raises:
            ArtifactRejected: An array is missing or has the wrong shape.
        """
        scaler = Scaler.from_arrays(arrays)
        centroids = read_array(arrays, "centroids", (None, len(scaler.shift)))
        n_clusters = len(centroids)
        prior_rows, temperature = read_array(arrays, "settings", (2,)).tolist()
        if prior_rows <= 0 or temperature <= 0 or n_clusters == 0:
            raise ArtifactRejected("k-means needs a cluster, prior rows > 0 and a temperature > 0")
        return cls(
            models,
            scaler,
            centroids,
            read_array(arrays, "radii", (n_clusters,)),
            read_array(arrays, "sizes", (n_clusters,)),
            CellStatistics.from_arrays(arrays, (n_clusters, len(models))),
            prior_rows,
            temperature,
        )


def mean_variance(statistics: CellStatistics, prior_rows: float) -> Float32:
    """Estimate how far each cell's shrunk mean quality may be off, as a variance.

    Its own rows are off by chance, and what it is shrunk to by what sets the model's cells apart.
    Both are estimated by model; a cell's own variance is shrunk to the model's as its mean is. A
    model nobody evaluated keeps the variance of a quality that may be anything.

    Returns:
        Shape ``(n_clusters, n_models)``.
    """
    count, rows = statistics.count, statistics.count.sum(axis=0)
    cells = (count > 0).sum(axis=0)
    within = _squared_deviations(statistics.quality_squares, statistics.quality_sum, count)
    of_model = (within.sum(axis=0) + UNSEEN_VARIANCE) / (np.maximum(rows - cells, 0.0) + 1.0)
    of_cell = (within + prior_rows * of_model) / (np.maximum(count - 1.0, 0.0) + prior_rows)
    # What the prior is made of, each cluster's ease and each model's mean, is off by chance too.
    of_ease = of_model.mean() / (count.sum(axis=1, keepdims=True) + 1.0)
    of_mean = of_model / (rows + 1.0)
    expected = statistics.prior_means()[0]
    apart = (statistics.quality_sum - count * expected) ** 2 / np.maximum(count, 1e-9)
    free = max(1.0 - sum(count.shape) / max(float(cells.sum()), 1.0), 0.0)
    beyond = np.maximum(apart.sum(axis=0) - free * cells * of_model, 0.0)
    of_prior = (beyond + UNSEEN_VARIANCE) / (rows + 1.0) + of_ease + of_mean
    variance = (count * of_cell + prior_rows**2 * of_prior) / (count + prior_rows) ** 2
    bounded: Float32 = np.clip(variance, 0.0, UNSEEN_VARIANCE).astype(np.float32)
    return bounded


def _squared_deviations(squares: Any, sums: Any, rows: Any) -> Any:
    return np.maximum(squares - sums * sums / np.maximum(rows, 1e-9), 0.0)
