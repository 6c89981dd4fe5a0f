"""The ridge router: sums of X'X and X'y, which make exactly the router of all rows."""

from dataclasses import dataclass, field

import numpy as np

from federation.learning.settings import FederatedRidgeSettings
from federation.learning.statistics import Scales
from federation.learning.sums import SHAPE, Float64, Sums
from router_models.estimators.arrays import Scaler
from router_models.estimators.ridge import RidgeEstimator, RidgeSums
from router_models.types import Evaluations

PER_WEIGHT = {SHAPE: ("n_weights", "n_models")}


@dataclass(frozen=True, slots=True, eq=False)
class GramSums(Sums):
    """`RidgeSums` with an X'X per model, of which the upper triangle says all.

    From fewer rows than features, X'X gives the rows away: add these up by a secure sum, or let
    none leave.

    Attributes:
        gram: X'X with a last column of ones; shape ``(n_models, n_pairs)``.
        quality: X'y; shape ``(n_weights, n_models)``.
        cost_usd: X'y of the cost; same shape.
    """

    gram: Float64 = field(metadata={SHAPE: ("n_models", "n_pairs")})
    quality: Float64 = field(metadata=PER_WEIGHT)
    cost_usd: Float64 = field(metadata=PER_WEIGHT)

    @staticmethod
    def lengths(dimension: int, n_models: int) -> dict[str, int]:
        """Lengths that `shapes` asks for."""
        n_weights = dimension + 1
        n_pairs = n_weights * (n_weights + 1) // 2
        return {"n_models": n_models, "n_weights": n_weights, "n_pairs": n_pairs}

    @classmethod
    def gather(cls, scaler: Scaler, evaluations: Evaluations) -> "GramSums":
        """Add up a client's rows."""
        scaled = scaler.apply(evaluations.embeddings)
        sums = RidgeSums.gather(
            scaled, evaluations.quality, evaluations.cost_usd, evaluations.counts
        )
        upper = np.triu_indices(sums.gram.shape[1])
        packed = np.stack([gram[upper] for gram in sums.gram])
        return cls(packed[sums.gram_of], sums.quality, sums.cost_usd)

    def sums(self) -> RidgeSums:
        """Unfold, as the estimator keeps them."""
        n_models, n_weights = len(self.gram), len(self.quality)
        rows, columns = np.triu_indices(n_weights)
        gram = np.empty((n_models, n_weights, n_weights))
        gram[:, rows, columns] = gram[:, columns, rows] = self.gram
        return RidgeSums(gram, np.arange(n_models), self.quality.copy(), self.cost_usd.copy())


def to_estimator(
    models: tuple[str, ...], scales: Scales, total: GramSums, settings: FederatedRidgeSettings
) -> RidgeEstimator:
    """Solve the heads from the sums of all clients.

    A model without rows is predicted at the means that `scales` gives it, not at 0 for nothing.
    """
    sums = total.sums()
    unseen = sums.gram[:, -1, -1] < 1.0
    sums.gram[unseen, -1, -1] = 1.0
    sums.quality[-1, unseen] = scales.quality_means[unseen]
    sums.cost_usd[-1, unseen] = scales.cost_means_usd[unseen]
    return RidgeEstimator(models, scales.scaler, sums, settings.alpha, scales.cost_floor_usd)
