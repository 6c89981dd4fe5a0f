"""The nearest-neighbour router: the baseline that remembers every query it was shown."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import UNSEEN_VARIANCE, Scaler, read_array
from router_models.statistics import means_of_sums
from router_models.types import Arrays, Float32, Prediction

ROWS_AT_ONCE = 1024


@dataclass(slots=True, eq=False)
class NearestNeighbours:
    """Averages what the models did on the most similar queries.

    Its cost grows with the train rows (about 1 ms per decision at 8,000), so it is measured
    against, not served by default.

    Attributes:
        models: Names of the columns.
        scaler: Applied to a query's vector before its length is made 1.
        points: Train rows, scaled and of length 1; shape ``(n_rows, dimension)``.
        quality: Shape ``(n_rows, n_models)``; -1 where the model did not answer.
        cost_usd: Same shape; -1 in the same places.
        neighbours: How many rows are averaged (k).
        prior_rows: How many rows a model's global mean counts for.
        weight: What each answer counts for, 0 to 1, shape as of `quality`; None where each is one.
    """

    kind: ClassVar[str] = "knn"

    models: tuple[str, ...]
    scaler: Scaler
    points: Float32
    quality: Float32
    cost_usd: Float32
    neighbours: int
    prior_rows: float = 1.0
    weight: Float32 | None = None
    dimension: int = field(init=False)
    _table: Float32 = field(init=False, repr=False)
    _known: Float32 = field(init=False, repr=False)
    _counts: Float32 = field(init=False, repr=False)
    _means: Float32 = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Put quality and cost side by side, times what they count for: one gather reads both."""
        self.dimension = self.points.shape[1]
        answered = self.quality >= 0
        weight = np.float32(1.0) if self.weight is None else self.weight
        self._counts = np.where(answered, weight, np.float32(0.0))
        known = [np.where(answered, table, 0.0) for table in (self.quality, self.cost_usd)]
        self._known = known[0].astype(np.float32)
        both = [(table * self._counts).astype(np.float32) for table in known]
        self._table = np.concatenate(both, axis=1)
        quality, cost = np.split(self._table.sum(axis=0, dtype=np.float64), 2)
        means = means_of_sums(self._counts.sum(axis=0), quality, cost)
        self._means = np.concatenate(means)

    def predict(self, embeddings: Float32) -> Prediction:
        """Predict for each row of `embeddings`, shape ``(n_queries, dimension)``."""
        both = np.concatenate([self._average(chosen) for chosen in self._nearest(embeddings)])
        return Prediction(both[:, : len(self.models)], both[:, len(self.models) :])

    def quality_stderr(self, embeddings: Float32) -> Float32:
        """Say how far each mean of neighbours may be off, shape ``(n_queries, n_models)``.

        The neighbours' variance is shrunk, by `prior_rows` again, to that of any quality.
        """
        return np.concatenate([self._stderr(chosen) for chosen in self._nearest(embeddings)])

    def _stderr(self, chosen: NDArray[np.intp]) -> Float32:
        n_models = len(self.models)
        mean = self._average(chosen)[:, np.newaxis, :n_models]
        counts = self._counts[chosen]
        squares = (counts * (self._known[chosen] - mean) ** 2).sum(axis=1)
        rows, prior = counts.sum(axis=1), np.float32(self.prior_rows)
        variance = (squares + prior * np.float32(UNSEEN_VARIANCE)) / (rows + prior)
        stderr: Float32 = np.sqrt(variance / np.maximum(rows, 1.0))
        return stderr

    def _nearest(self, embeddings: Float32) -> Iterator[NDArray[np.intp]]:
        """Yield the places of each row's neighbours, for as many rows at a time as fit."""
        k = min(self.neighbours, len(self.points))
        for start in range(0, max(len(embeddings), 1), ROWS_AT_ONCE):
            rows = embeddings[start : start + ROWS_AT_ONCE]
            near = self.scaler.apply_unit(rows) @ self.points.T
            yield np.argpartition(-near, k - 1, axis=1)[:, :k]

    def _average(self, chosen: NDArray[np.intp]) -> Float32:
        rows = np.tile(self._counts[chosen].sum(axis=1), 2) + np.float32(self.prior_rows)
        sums = self._table[chosen].sum(axis=1) + np.float32(self.prior_rows) * self._means
        averaged: Float32 = sums / rows
        return averaged

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs, as named arrays."""
        return {
            **self.scaler.to_arrays(),
            "points": self.points,
            "quality": self.quality,
            "cost_usd": self.cost_usd,
            "settings": np.array([float(self.neighbours), self.prior_rows]),
            **({} if self.weight is None else {"weight": self.weight}),
        }

    @classmethod
    def from_arrays(cls, models: tuple[str, ...], arrays: Arrays) -> Self:
        """Rebuild from `to_arrays`.

        Raises:
            ArtifactRejected: An array is missing or has the wrong shape.
        """
        scaler = Scaler.from_arrays(arrays)
        points = read_array(arrays, "points", (None, len(scaler.shift)))
        shape = (len(points), len(models))
        neighbours, prior_rows = read_array(arrays, "settings", (2,)).tolist()
        if neighbours < 1 or prior_rows <= 0 or not len(points):
            raise ArtifactRejected("k-nearest neighbours needs a row, k >= 1 and prior rows > 0")
        quality, cost = read_array(arrays, "quality", shape), read_array(arrays, "cost_usd", shape)
        if not (quality >= 0).any():
            raise ArtifactRejected("k-nearest neighbours needs an answer")
        weight = read_array(arrays, "weight", shape) if "weight" in arrays else None
        if weight is not None and not (weight.min() >= 0 and weight.max() <= 1):
            raise ArtifactRejected("weights of k-nearest neighbours lie between 0 and 1")
        return cls(models, scaler, points, quality, cost, int(neighbours), prior_rows, weight)
