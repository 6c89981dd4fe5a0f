"""A router made personal: what a site learned alone and what all learned, mixed per model."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import read_array
from router_models.estimators.factors import FactorsEstimator
from router_models.estimators.kmeans import KMeansEstimator
from router_models.estimators.knn import NearestNeighbours
from router_models.estimators.mlp import MlpEstimator
from router_models.estimators.nesting import pack, unpack
from router_models.estimators.ridge import RidgeEstimator
from router_models.types import Arrays, Estimator, Float32, Prediction

PARTS: tuple[type[Estimator], ...] = (
    FactorsEstimator,
    KMeansEstimator,
    MlpEstimator,
    NearestNeighbours,
    RidgeEstimator,
)
"""Every kind that can be mixed."""


@dataclass(slots=True, eq=False)
class MixtureEstimator:
    """Mixes two estimators of the same models, each model with shares of its own.

    Attributes:
        local: Learned from one site's rows.
        shared: Learned from many sites' rows.
        quality_share: What `local` counts for in a model's quality, from 0 to 1; `shared` counts
            for the rest. Shape ``(n_models,)``.
        cost_share: The same for its cost.
    """

    kind: ClassVar[str] = "mixture"

    local: Estimator
    shared: Estimator
    quality_share: Float32
    cost_share: Float32
    models: tuple[str, ...] = field(init=False)
    dimension: int = field(init=False)

    def __post_init__(self) -> None:
        """Take models and dimension from the parts.

        Raises:
            ValueError: The parts predict other models or read other vectors.
        """
        self.models, self.dimension = self.shared.models, self.shared.dimension
        if (self.local.models, self.local.dimension) != (self.models, self.dimension):
            raise ValueError("the parts of a mixture predict the same models from the same vectors")

    def predict(self, embeddings: Float32) -> Prediction:
        """Predict for each row of `embeddings`, shape ``(n_queries, dimension)``."""
        local, shared = self.local.predict(embeddings), self.shared.predict(embeddings)
        return Prediction(
            shared.quality + (local.quality - shared.quality) * self.quality_share,
            shared.cost_usd + (local.cost_usd - shared.cost_usd) * self.cost_share,
        )

    def quality_stderr(self, embeddings: Float32) -> Float32 | None:
        """Standard errors of the parts, by their shares: they may err together."""
        local, shared = (part.quality_stderr(embeddings) for part in (self.local, self.shared))
        if local is None or shared is None:
            return None
        return shared + (local - shared) * self.quality_share

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs, as named arrays."""
        return {
            **pack("local.", self.local),
            **pack("shared.", self.shared),
            "quality_share": self.quality_share,
            "cost_share": self.cost_share,
        }

    @classmethod
    def from_arrays(cls, models: tuple[str, ...], arrays: Arrays) -> Self:
        """Rebuild from `to_arrays`.

        Raises:
            ArtifactRejected: An array is missing or has the wrong shape, a kind is unknown, a share
                is out of range or the parts do not fit together.
        """
        shares = [
            read_array(arrays, name, (len(models),)) for name in ("quality_share", "cost_share")
        ]
        if np.min(shares) < 0 or np.max(shares) > 1:
            raise ArtifactRejected("the shares of a mixture lie between 0 and 1")
        local, shared = (unpack(p, models, arrays, PARTS) for p in ("local.", "shared."))
        if local.dimension != shared.dimension:
            raise ArtifactRejected("the parts of a mixture read vectors of other dimensions")
        return cls(local, shared, *shares)
