"""A router as it serves: manifest, estimator and guard, asked about one query at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from router_models.artifacts.registry import ModelRegistry
from router_models.artifacts.sealed_file import OPTIONAL, EncoderManifest
from router_models.estimators.factors import FactorsEstimator
from router_models.estimators.guard import Guard, GuardedEstimator
from router_models.estimators.kmeans import CellStatistics, KMeansEstimator
from router_models.estimators.one_query import OneQuery
from router_models.types import Estimator, Float32

REMEMBERED_PREDICTIONS = 1024
"""About 0.7 MB with 12 models."""
UNSEEN_VARIANCE = 1.0 / 12.0
"""Of a quality that may be anything from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterManifest(EncoderManifest):
    """What a router was made of: for whom, from what, and how well it did.

    Attributes:
        models: Names of the models it predicts, in the order of its columns.
        has_guard: A guard against unfamiliar queries is part of the artefact.
        registry: Aliases of some of the models, as `ModelRegistry` is built from.
    """

    models: tuple[str, ...]
    has_guard: bool
    registry: Mapping[str, Sequence[str]] = field(default_factory=dict, metadata=OPTIONAL)


class RouterPrediction(NamedTuple):
    """What a router expects of each of its models on one query.

    Attributes:
        quality: Shape ``(n_models,)``, in the order of the router's models.
        cost_usd: Same shape.
        familiarity: 1 among the train rows, 0 far from all of them; 1 without a guard.
    """

    quality: Float32
    cost_usd: Float32
    familiarity: float


class PoolPrediction(NamedTuple):
    """The same for the models of a pool, in the pool's order; None where the router has none."""

    quality: tuple[float | None, ...]
    cost_usd: tuple[float | None, ...]
    familiarity: float


@dataclass(frozen=True, slots=True, eq=False)
class Router:
    """Predicts quality and cost per model; immutable, so a swap is one assignment."""

    manifest: RouterManifest
    estimator: Estimator
    guard: Guard | None
    version: str = field(init=False)
    """Name of the artefact; kept, since making it costs 2 µs and every turn reads it twice."""
    _columns: Mapping[str, int] = field(init=False, repr=False)
    _quality_variance: Float32 | None = field(init=False, repr=False)
    _one_query: OneQuery | None = field(init=False, repr=False)
    _remembered: dict[tuple[int, tuple[str, ...]], PoolPrediction] = field(
        init=False, repr=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        columns = {model: index for index, model in enumerate(self.estimator.models)}
        for model, aliases in self.manifest.registry.items():
            columns |= {alias: columns[model] for alias in aliases if alias not in columns}
        object.__setattr__(self, "version", self.manifest.version)
        object.__setattr__(self, "_columns", columns)
        variance, one_query = None, None
        if isinstance(self.estimator, KMeansEstimator):
            variance = mean_variance(self.estimator.statistics, self.estimator.prior_rows)
            one_query = (
                None if self.guard is None else OneQuery.from_estimator(self.estimator, self.guard)
            )
        object.__setattr__(self, "_quality_variance", variance)
        object.__setattr__(self, "_one_query", one_query)

    @property
    def models(self) -> tuple[str, ...]:
        """The models it predicts."""
        return self.estimator.models

    @property
    def registry(self) -> ModelRegistry:
        """What other names its models go by."""
        return ModelRegistry(self.manifest.registry)

    @property
    def serving_estimator(self) -> Estimator:
        """The estimator as it serves, guard included; predicts for many queries at once."""
        if self.guard is None:
            return self.estimator
        return GuardedEstimator(self.estimator, self.guard)

    def column(self, model: str) -> int | None:
        """Return where `model` stands among its models, by its own name or by an alias."""
        return self._columns.get(model)

    def predict(self, embedding: Float32) -> RouterPrediction:
        """Predict for one query; `embedding` has shape ``(dimension,)``."""
        if self._one_query is not None:
            figures, near = self._one_query.predict(embedding)
            n_models = len(self.estimator.models)
            return RouterPrediction(figures[:n_models], figures[n_models:], near)
        row = embedding[np.newaxis]
        prediction = self.estimator.predict(row)
        if self.guard is None:
            return RouterPrediction(prediction.quality[0], prediction.cost_usd[0], 1.0)
        familiarity = self.guard.familiarity(row)
        prediction = self.guard.shrink(prediction, familiarity)
        return RouterPrediction(
            prediction.quality[0], prediction.cost_usd[0], float(familiarity[0])
        )

    def predict_pool(self, embedding: Float32, models: tuple[str, ...]) -> PoolPrediction:
        """Predict for one query and the models of a pool, as `decide` reads them.

        The latest predictions are kept: the turns of an agent's loop ask about one query.
        """
        # Two vectors of equal 64-bit hash would need 2**32 queries to be likely.
        key = hash(embedding.tobytes()), models
        known = self._remembered.get(key)
        if known is None:
            if len(self._remembered) >= REMEMBERED_PREDICTIONS:
                self._remembered.clear()
            quality, cost_usd, familiarity = self.predict(embedding)
            known = self._remembered[key] = PoolPrediction(
                self._in_order(quality, models), self._in_order(cost_usd, models), familiarity
            )
        return known

    def quality_stderr(
        self, embedding: Float32, models: Sequence[str]
    ) -> tuple[float | None, ...] | None:
        """Standard errors of predicted quality for a pool; None where the estimator has none.

        What Thompson exploration reads. K-means keeps the sums of squares it takes, and factors
        are a posterior.
        """
        if isinstance(self.estimator, FactorsEstimator):
            return self._in_order(self.estimator.quality_stderr(embedding[np.newaxis])[0], models)
        if self._quality_variance is None or not isinstance(self.estimator, KMeansEstimator):
            return None
        weights = self.estimator.weights(embedding[np.newaxis])
        return self._in_order(np.sqrt((weights * weights) @ self._quality_variance)[0], models)

    def _in_order(self, figures: Float32, models: Sequence[str]) -> tuple[float | None, ...]:
        values, columns = figures.tolist(), map(self._columns.get, models)
        return tuple([None if column is None else values[column] for column in columns])


def mean_variance(statistics: CellStatistics, prior_rows: float) -> Float32:
    """Estimate how far each cell's shrunk mean quality may be off, as a variance.

    A cell's own variance is shrunk to the model's as its mean is; the prior counts as rows only
    as far as the model has rows at all, so a model nobody evaluated keeps the variance of a
    quality that may be anything.

    Returns:
        Shape ``(n_clusters, n_models)``.
    """
    rows = statistics.count.sum(axis=0)
    spread = _squared_deviations(
        statistics.quality_squares.sum(axis=0), statistics.quality_sum.sum(axis=0), rows
    )
    of_model = (spread + UNSEEN_VARIANCE) / (rows + 1.0)
    within = _squared_deviations(
        statistics.quality_squares, statistics.quality_sum, statistics.count
    )
    of_cell = (within + prior_rows * of_model) / (statistics.count + prior_rows)
    backing = statistics.count + np.minimum(prior_rows, rows) + 1.0
    variance: Float32 = (of_cell / backing).astype(np.float32)
    return variance


def _squared_deviations(squares: Any, sums: Any, rows: Any) -> Any:
    return np.maximum(squares - sums * sums / np.maximum(rows, 1e-9), 0.0)
