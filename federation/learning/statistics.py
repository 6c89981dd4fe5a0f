"""What all clients' rows have in common, from sums alone: scales, means and costs."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.learning.sums import SHAPE, Float64, Sums
from router_models.errors import InvalidEvaluations
from router_models.estimators.arrays import Scaler, read_array
from router_models.statistics import means_of_sums
from router_models.types import Arrays, Evaluations, Float32

PER_FEATURE = {SHAPE: ("dimension",)}
PER_MODEL = {SHAPE: ("n_models",)}

FLOOR_DEVIATIONS = 2.0
"""How far below its mean a model's log cost may be predicted; a minimum is not a sum."""

NUSD_PER_USD = 1e9
"""Calls cost far less than a dollar, where log1p(USD) is the cost; of nano-USD it is a log."""


@dataclass(frozen=True, slots=True, eq=False)
class Scales:
    """What every client scales its rows by, so that all speak of the same numbers.

    Attributes:
        scaler: Of the features.
        cost_scale: Rows: mean and deviation of log1p(USD) per model; shape ``(2, n_models)``.
        cost_floor_usd: No prediction goes below; shape ``(n_models,)``.
        quality_means: Of each model over all clients' rows; same shape.
        cost_means_usd: Same shape.
    """

    scaler: Scaler
    cost_scale: Float32
    cost_floor_usd: Float32
    quality_means: Float32
    cost_means_usd: Float32

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs; what the coordinator sends to clients."""
        return {
            **self.scaler.to_arrays(),
            "cost_scale": self.cost_scale,
            "cost_floor_usd": self.cost_floor_usd,
            "quality_means": self.quality_means,
            "cost_means_usd": self.cost_means_usd,
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_models: int) -> "Scales":
        """Rebuild from `to_arrays`.

        Raises:
            ArtifactRejected: An array is missing or has the wrong shape.
        """
        return cls(
            Scaler.from_arrays(arrays),
            read_array(arrays, "cost_scale", (2, n_models)),
            *(
                read_array(arrays, name, (n_models,))
                for name in ("cost_floor_usd", "quality_means", "cost_means_usd")
            ),
        )


@dataclass(frozen=True, slots=True, eq=False)
class RowSums(Sums):
    """Sums over rows of features, and per model of quality and cost.

    Attributes:
        rows: Queries; shape ``(1,)``.
        feature_sum: Shape ``(dimension,)``.
        feature_squares: Same shape.
        count: Evaluations per model; shape ``(n_models,)``, as all that follow.
        quality_sum: Of each model.
        cost_sum: In USD.
        log_cost_sum: Of log1p(USD).
        log_cost_squares: Of the squares of log1p(USD).
        log_nusd_sum: Of log1p(nano-USD).
        log_nusd_squares: Of the squares of log1p(nano-USD).
    """

    rows: Float64 = field(metadata={SHAPE: ("one",)})
    feature_sum: Float64 = field(metadata=PER_FEATURE)
    feature_squares: Float64 = field(metadata=PER_FEATURE)
    count: Float64 = field(metadata=PER_MODEL)
    quality_sum: Float64 = field(metadata=PER_MODEL)
    cost_sum: Float64 = field(metadata=PER_MODEL)
    log_cost_sum: Float64 = field(metadata=PER_MODEL)
    log_cost_squares: Float64 = field(metadata=PER_MODEL)
    log_nusd_sum: Float64 = field(metadata=PER_MODEL)
    log_nusd_squares: Float64 = field(metadata=PER_MODEL)

    @classmethod
    def gather(cls, evaluations: Evaluations) -> "RowSums":
        """Add up a client's rows; NaN marks a model that did not answer the query."""
        embeddings = evaluations.embeddings
        counts = evaluations.counts.astype(np.float64)
        quality = np.where(counts > 0, evaluations.quality, 0.0).astype(np.float64)
        cost = np.where(counts > 0, evaluations.cost_usd, 0.0).astype(np.float64)
        logs, nusd_logs = np.log1p(cost), np.log1p(cost * NUSD_PER_USD)
        return cls(
            np.array([len(embeddings)], np.float64),
            embeddings.sum(axis=0, dtype=np.float64),
            np.einsum("ij,ij->j", embeddings, embeddings, dtype=np.float64),
            counts.sum(axis=0),
            (counts * quality).sum(axis=0),
            (counts * cost).sum(axis=0),
            (counts * logs).sum(axis=0),
            (counts * logs * logs).sum(axis=0),
            (counts * nusd_logs).sum(axis=0),
            (counts * nusd_logs * nusd_logs).sum(axis=0),
        )

    def scaler(self) -> Scaler:
        """`Scaler.fit` on all rows.

        Raises:
            InvalidEvaluations: There is no row.
        """
        _need(self.rows)
        mean = self.feature_sum / self.rows
        return Scaler.from_moments(mean, _deviation(mean, self.feature_squares / self.rows))

    def means(self) -> tuple[Float32, Float32]:
        """Mean quality and cost in USD per model, as `model_means` of all rows.

        Raises:
            InvalidEvaluations: No model has a row.
        """
        _need(self.count)
        return means_of_sums(self.count, self.quality_sum, self.cost_sum)

    def cost_scale(self) -> Float32:
        """`cost_scale_of` all rows; shape ``(2, n_models)``.

        Raises:
            InvalidEvaluations: No model has a row.
        """
        mean, spread = self._log_costs()
        return np.stack([mean, np.maximum(spread, 1e-9)]).astype(np.float32)

    def cost_floor(self) -> Float32:
        """Lowest cost to predict per model, USD; 0 for a model without rows.

        Without it, models whose predicted cost falls below 0 all seem free where cost counts most.

        Raises:
            InvalidEvaluations: No model has a row.
        """
        _need(self.count)
        rows = np.maximum(self.count, 1.0)
        mean = self.log_nusd_sum / rows
        spread = _deviation(mean, self.log_nusd_squares / rows)
        floor = np.expm1(np.maximum(mean - FLOOR_DEVIATIONS * spread, 0.0)) / NUSD_PER_USD
        return floor.astype(np.float32)

    def scales(self) -> Scales:
        """All of these in one.

        Raises:
            InvalidEvaluations: There is no row, or none that a model answered.
        """
        return Scales(self.scaler(), self.cost_scale(), self.cost_floor(), *self.means())

    def _log_costs(self) -> tuple[Float64, Float64]:
        rows = np.maximum(self.count, 1.0)
        mean = self.log_cost_sum / rows
        spread = _deviation(mean, self.log_cost_squares / rows)
        return np.where(self.count > 0, mean, np.log1p(self.means()[1])), spread


def _need(count: Float64) -> None:
    if not count.sum() > 0:
        raise InvalidEvaluations("no client has a row to learn from")


def _deviation(mean: Float64, mean_square: Float64) -> Float64:
    """Standard deviation, 0 where rounding leaves less than nothing."""
    deviation: Float64 = np.sqrt(np.maximum(mean_square - mean * mean, 0.0))
    return deviation
