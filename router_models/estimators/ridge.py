"""The ridge router: linear heads whose sums federate exactly."""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import UNSEEN_VARIANCE, Scaler, read_array
from router_models.types import Arrays, Float32, Prediction

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RidgeSums:
    """What a ridge regression needs to know of its rows; additive over clients.

    Models that answered the same queries, at the same weights, share one X'X, so `gram` has one
    matrix per distinct set of them and `gram_of` says which one each model uses.

    Attributes:
        gram: X'X with a last column of ones; shape ``(n_sets, dimension + 1, dimension + 1)``.
        gram_of: Index into `gram`; shape ``(n_models,)``.
        quality: X'y; shape ``(dimension + 1, n_models)``.
        cost_usd: X'y of the cost; same shape.
    """

    gram: Float64
    gram_of: NDArray[np.int64]
    quality: Float64
    cost_usd: Float64

    @classmethod
    def gather(
        cls,
        scaled: Float32,
        quality: Float32,
        cost_usd: Float32,
        counts: Float32 | None = None,
    ) -> "RidgeSums":
        """Add up rows; NaN marks a model that did not answer the query.

        Args:
            scaled: Vectors of the queries.
            quality: Of each answer.
            cost_usd: Of each answer.
            counts: What each answer counts for (`Evaluations.counts`); None where each is one.
        """
        rows = np.concatenate([scaled, np.ones((len(scaled), 1), np.float32)], axis=1)
        rows = rows.astype(np.float64)
        count = np.isfinite(quality).astype(np.float32) if counts is None else counts
        sets, gram_of = np.unique(count, axis=1, return_inverse=True)
        gram = np.stack([_gram(rows, of_set) for of_set in sets.T])
        return cls(
            gram,
            gram_of.reshape(-1).astype(np.int64),
            rows.T @ (np.where(count > 0, quality, 0.0) * count),
            rows.T @ (np.where(count > 0, cost_usd, 0.0) * count),
        )

    def per_model(self) -> "RidgeSums":
        """Give every model its own X'X, the form in which sums of different clients add up."""
        n_models = len(self.gram_of)
        own = np.arange(n_models, dtype=np.int64)
        return RidgeSums(self.gram[self.gram_of], own, self.quality, self.cost_usd)

    def __add__(self, other: "RidgeSums") -> "RidgeSums":
        """Join another client's rows."""
        if np.array_equal(self.gram_of, other.gram_of) and len(self.gram) == len(other.gram):
            mine, yours = self, other
        else:
            mine, yours = self.per_model(), other.per_model()
        return RidgeSums(
            mine.gram + yours.gram,
            mine.gram_of,
            mine.quality + yours.quality,
            mine.cost_usd + yours.cost_usd,
        )

    def solve(self, alpha: float) -> tuple[Float64, Float64]:
        """Weights of quality and cost, shape ``(dimension + 1, n_models)``; no penalty on the mean.

        `alpha` counts in rows: it is added to X'X, whose features have deviation 1.
        """
        penalty = self._penalty(alpha)
        quality, cost = np.zeros_like(self.quality), np.zeros_like(self.cost_usd)
        for index, gram in enumerate(self.gram):
            columns = self.gram_of == index
            both = np.concatenate([self.quality[:, columns], self.cost_usd[:, columns]], axis=1)
            solved = np.linalg.solve(gram + penalty, both)
            quality[:, columns], cost[:, columns] = np.split(solved, 2, axis=1)
        return quality, cost

    def inverses(self, alpha: float) -> Float64:
        """Invert what `solve` solves; shape ``(n_sets, dimension + 1, dimension + 1)``."""
        penalty = self._penalty(alpha)
        return np.stack([np.linalg.inv(gram + penalty) for gram in self.gram])

    def noise(self, weights: Float64, inverses: Float64) -> Float64:
        """Variance of quality that `weights` leave unexplained; shape ``(n_models,)``.

        The sums hold no squares of quality. It lies between 0 and 1, so it is not less than its
        square, and equal where it is 0 or 1: elsewhere the variance comes out too high.
        """
        gram = self.gram[self.gram_of]
        rows = gram[:, -1, -1]
        explained = 2.0 * (weights * self.quality).sum(axis=0)
        explained -= np.einsum("im,mij,jm->m", weights, gram, weights, optimize=True)
        fitted = np.einsum("mij,mji->m", gram, inverses[self.gram_of])
        residual = np.maximum(self.quality[-1] - explained, 0.0)
        noise: Float64 = (residual + UNSEEN_VARIANCE) / (np.maximum(rows - fitted, 0.0) + 1.0)
        return noise

    def _penalty(self, alpha: float) -> Float64:
        penalty = np.full(self.gram.shape[1], alpha)
        penalty[-1] = 1e-6
        return np.diag(penalty)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs."""
        return {f"sums.{item.name}": getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Arrays, dimension: int, n_models: int) -> "RidgeSums":
        """Rebuild from `to_arrays`.

        Raises:
            ArtifactRejected: An array is missing or has the wrong shape.
        """
        gram = read_array(arrays, "sums.gram", (None, dimension + 1, dimension + 1))
        gram_of = read_array(arrays, "sums.gram_of", (n_models,))
        if not np.isin(gram_of, np.arange(len(gram))).all():
            raise ArtifactRejected("array 'sums.gram_of' points outside 'sums.gram'")
        columns = (dimension + 1, n_models)
        quality = read_array(arrays, "sums.quality", columns)
        return cls(gram, gram_of, quality, read_array(arrays, "sums.cost_usd", columns))


def _gram(rows: Float64, count: Float32) -> Float64:
    kept = count > 0
    gram: Float64 = (rows[kept] * count[kept, np.newaxis]).T @ rows[kept]
    return gram


@dataclass(slots=True, eq=False)
class RidgeEstimator:
    """One linear head per model for quality and one for cost.

    Attributes:
        models: Names of the columns.
        scaler: Applied to a query's vector.
        sums: What the heads were solved from.
        alpha: Penalty, in rows.
        cost_floor_usd: A model's lowest cost seen; no prediction goes below. Shape ``(n_models,)``.
        weights: Of quality, then of cost; shape ``(dimension, 2 * n_models)``.
        means: What a query of mean vector gets; shape ``(2 * n_models,)``.
    """

    kind: ClassVar[str] = "ridge"

    models: tuple[str, ...]
    scaler: Scaler
    sums: RidgeSums
    alpha: float
    cost_floor_usd: Float32
    dimension: int = field(init=False)
    weights: Float32 = field(init=False, repr=False)
    means: Float32 = field(init=False, repr=False)
    _doubt: tuple[Float32, Float32] | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        """Solve the heads."""
        self.dimension = len(self.scaler.shift)
        solved = np.concatenate(self.sums.solve(self.alpha), axis=1).astype(np.float32)
        self.weights, self.means = np.ascontiguousarray(solved[:-1]), solved[-1]

    def predict(self, embeddings: Float32) -> Prediction:
        """Predict for each row of `embeddings`, shape ``(n_queries, dimension)``."""
        both = self.scaler.apply(embeddings) @ self.weights + self.means
        n_models = len(self.models)
        quality = np.minimum(np.maximum(both[:, :n_models], 0.0), 1.0)
        return Prediction(quality, np.maximum(both[:, n_models:], self.cost_floor_usd))

    def quality_stderr(self, embeddings: Float32) -> Float32:
        """Say how far each head may be off by chance, shape ``(n_queries, n_models)``.

        Its variance is ``x' (X'X + alpha)^-1 x`` times the noise of the model's quality; what is
        not linear is not in it. The first call inverts, which takes 10 ms for each set of models
        that answered the same queries.
        """
        if self._doubt is None:
            exact = self.sums.inverses(self.alpha)
            left = self.sums.noise(self.sums.solve(self.alpha)[0], exact)
            self._doubt = exact.astype(np.float32), left.astype(np.float32)
        inverses, noise = self._doubt
        rows = self.scaler.apply(embeddings)
        rows = np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1)
        reach = np.stack([((rows @ one) * rows).sum(axis=1) for one in inverses], axis=1)
        variance = reach[:, self.sums.gram_of] * noise
        stderr: Float32 = np.sqrt(np.clip(variance, 0.0, UNSEEN_VARIANCE))
        return stderr

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs, as named arrays."""
        return {
            **self.scaler.to_arrays(),
            **self.sums.to_arrays(),
            "cost_floor_usd": self.cost_floor_usd,
            "settings": np.array([self.alpha]),
        }

    @classmethod
    def from_arrays(cls, models: tuple[str, ...], arrays: Arrays) -> Self:
        """Rebuild from `to_arrays`.

        Raises:
            ArtifactRejected: An array is missing or has the wrong shape.
        """
        scaler = Scaler.from_arrays(arrays)
        sums = RidgeSums.from_arrays(arrays, len(scaler.shift), len(models))
        (alpha,) = read_array(arrays, "settings", (1,)).tolist()
        if alpha <= 0:
            raise ArtifactRejected("ridge needs a penalty above 0")
        return cls(
            models, scaler, sums, alpha, read_array(arrays, "cost_floor_usd", (len(models),))
        )
