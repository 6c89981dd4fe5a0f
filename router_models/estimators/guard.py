"""Out-of-distribution guard: on unfamiliar queries, move towards each model's overall record.

With whole tasks held out, every estimator measured fell below the best single model: it is sure of
itself where it has seen nothing. The guard knows where the train rows lie, and the further away a
query is, the more it shrinks the prediction towards the models' global means. It keeps as much of
the difference from them as held-out parts of the train rows bore out.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import Scaler, read_array, strip_prefix
from router_models.estimators.calibration import PLAIN, Calibration
from router_models.estimators.mixture import PARTS, MixtureEstimator
from router_models.estimators.nesting import pack, unpack
from router_models.types import Arrays, Estimator, Float32, Prediction

ESTIMATORS: tuple[type[Estimator], ...] = (*PARTS, MixtureEstimator)
"""Every kind that a guard can hold."""

INNER, GUARD = "estimator.", "guard."


@dataclass(slots=True, eq=False)
class Guard:
    """Knows where the train rows lie.

    Attributes:
        scaler: Applied to a query's vector before its length is made 1.
        centroids: Of length 1; shape ``(n_clusters, dimension)``.
        reach: Cosine distance within which most of a cluster's rows lie; shape ``(n_clusters,)``.
        near: Up to this distance, in multiples of the cluster's reach, a query is familiar.
        far: From this distance on it is unknown.
        quality_means: Of each model over all train rows; shape ``(n_models,)``.
        cost_means_usd: Same shape.
        kept_quality: Share, from 0 to 1, of a predicted quality's difference from the model's mean
            that is left on an unknown query; 1 switches the guard off.
        kept_cost: The same for costs.
        calibration: How the estimator's quality is read, before the guard moves it.
    """

    scaler: Scaler
    centroids: Float32
    reach: Float32
    near: float
    far: float
    quality_means: Float32
    cost_means_usd: Float32
    kept_quality: float = 0.0
    kept_cost: float = 0.0
    calibration: Calibration = PLAIN

    def distance(self, embeddings: Float32) -> Float32:
        """Distance to the nearest cluster, in multiples of its reach; shape ``(n_queries,)``."""
        cosine = self.scaler.apply_unit(embeddings) @ self.centroids.T
        nearest: Float32 = ((np.float32(1.0) - cosine) / self.reach).min(axis=1)
        return nearest

    def familiarity(self, embeddings: Float32) -> Float32:
        """Say how well known each row is: 1 among the train rows, 0 far from all of them."""
        share = (self.far - self.distance(embeddings)) / np.float32(self.far - self.near)
        share = np.minimum(np.maximum(share, 0.0), 1.0)
        smooth: Float32 = share * share * (np.float32(3.0) - np.float32(2.0) * share)
        return smooth

    def shrink(self, prediction: Prediction, familiarity: Float32) -> Prediction:
        """Calibrate, then pull each row to the models' means by what it lacks in familiarity."""
        known, unknown = familiarity[:, None], np.float32(1.0) - familiarity[:, None]
        of_quality = known + unknown * np.float32(self.kept_quality)
        of_cost = known + unknown * np.float32(self.kept_cost)
        calibrated = self.calibration.apply(prediction.quality)
        quality = self.quality_means + (calibrated - self.quality_means) * of_quality
        cost = self.cost_means_usd + (prediction.cost_usd - self.cost_means_usd) * of_cost
        return Prediction(quality, np.maximum(cost, 0.0))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs."""
        shift, slope = self.calibration.shift, self.calibration.slope
        is_plain = self.calibration.curve is None
        return {
            **({} if is_plain else {"calibration": np.array([shift, slope])}),
            **self.scaler.to_arrays(),
            "centroids": self.centroids,
            "reach": self.reach,
            "limits": np.array([self.near, self.far]),
            "kept": np.array([self.kept_quality, self.kept_cost]),
            "quality_means": self.quality_means,
            "cost_means_usd": self.cost_means_usd,
        }

    @classmethod
    def from_arrays(cls, models: tuple[str, ...], arrays: Arrays) -> Self:
        """Rebuild from `to_arrays`; one from before `kept` keeps nothing of the unknown.

        Raises:
            ArtifactRejected: An array is missing, has the wrong shape or holds impossible values.
        """
        scaler = Scaler.from_arrays(arrays)
        centroids = read_array(arrays, "centroids", (None, len(scaler.shift)))
        reach = read_array(arrays, "reach", (len(centroids),))
        near, far = read_array(arrays, "limits", (2,)).tolist()
        if not near < far or not len(centroids) or (reach <= 0).any():
            raise ArtifactRejected("a guard needs clusters, a reach above 0 and near < far")
        of_quality, of_cost = (
            read_array(arrays, "kept", (2,)).tolist() if "kept" in arrays else (0.0, 0.0)
        )
        if not (0.0 <= of_quality <= 1.0 and 0.0 <= of_cost <= 1.0):
            raise ArtifactRejected("what a guard keeps must lie between 0 and 1")
        quality, cost = (
            read_array(arrays, name, (len(models),)) for name in ("quality_means", "cost_means_usd")
        )
        calibration = PLAIN
        if "calibration" in arrays:
            calibration = Calibration(*read_array(arrays, "calibration", (2,)).tolist())
        return cls(
            scaler, centroids, reach, near, far, quality, cost, of_quality, of_cost, calibration
        )


@dataclass(slots=True, eq=False)
class GuardedEstimator:
    """An estimator of any kind with its guard; itself an estimator."""

    kind: ClassVar[str] = "guarded"

    estimator: Estimator
    guard: Guard
    models: tuple[str, ...] = field(init=False)
    dimension: int = field(init=False)

    def __post_init__(self) -> None:
        """Take models and dimension from the estimator inside."""
        self.models = self.estimator.models
        self.dimension = self.estimator.dimension

    def familiarity(self, embeddings: Float32) -> Float32:
        """Say how well known each row is, from 0 to 1; shape ``(n_queries,)``."""
        return self.guard.familiarity(embeddings)

    def predict(self, embeddings: Float32) -> Prediction:
        """Predict for each row of `embeddings`, shape ``(n_queries, dimension)``."""
        return self.predict_with_familiarity(embeddings)[0]

    def predict_with_familiarity(self, embeddings: Float32) -> tuple[Prediction, Float32]:
        """Predict, and say how well known each row is, for one price."""
        familiarity = self.guard.familiarity(embeddings)
        prediction = self.estimator.predict(embeddings)
        return self.guard.shrink(prediction, familiarity), familiarity

    def quality_stderr(self, embeddings: Float32) -> Float32 | None:
        """Standard errors of the estimator inside: the guard has no part in them."""
        return self.estimator.quality_stderr(embeddings)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs, as named arrays."""
        guard = {GUARD + name: array for name, array in self.guard.to_arrays().items()}
        return pack(INNER, self.estimator) | guard

    @classmethod
    def from_arrays(cls, models: tuple[str, ...], arrays: Arrays) -> Self:
        """Rebuild from `to_arrays`.

        Raises:
            ArtifactRejected: An array is missing or has the wrong shape, or the kind is unknown.
        """
        estimator = unpack(INNER, models, arrays, ESTIMATORS)
        guard = Guard.from_arrays(models, strip_prefix(GUARD, arrays))
        if estimator.dimension != len(guard.scaler.shift):
            raise ArtifactRejected("guard and estimator read vectors of other dimensions")
        return cls(estimator, guard)
