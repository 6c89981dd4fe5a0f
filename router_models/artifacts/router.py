"""A router as it serves: manifest, estimator and guard, asked about one query at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_models.artifacts.registry import ModelRegistry
from router_models.artifacts.sealed_file import OPTIONAL, EncoderManifest
from router_models.estimators.guard import Guard, GuardedEstimator
from router_models.estimators.one_query import OneQuery
from router_models.types import TOKENS_PER_MTOK, USD, Estimator, Float32, Unit

REMEMBERED_PREDICTIONS = 1024
"""About 0.7 MB with 12 models."""
REMEMBERED_FIGURES = 64
REMEMBERED_POOLS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterManifest(EncoderManifest):
    """What a router was made of: for whom, from what, and how well it did.

    Attributes:
        models: Names of the models it predicts, in the order of its columns.
        has_guard: A guard against unfamiliar queries is part of the artefact.
        registry: Aliases of some of the models, as `ModelRegistry` is built from.
        unit: Of what it predicts besides quality.
    """

    models: tuple[str, ...]
    has_guard: bool
    registry: Mapping[str, Sequence[str]] = field(default_factory=dict, metadata=OPTIONAL)
    unit: Unit = field(default=USD, metadata=OPTIONAL)


class RouterPrediction(NamedTuple):
    """What a router expects of each of its models on one query.

    Attributes:
        quality: Shape ``(n_models,)``, in the order of the router's models.
        cost_usd: In the router's unit; same shape.
        familiarity: 1 among the train rows, 0 far from all of them; 1 without a guard.
    """

    quality: Float32
    cost_usd: Float32
    familiarity: float


class PoolPrediction(NamedTuple):
    """The same for the models of a pool, in the pool's order; None where the router has none.

    Attributes:
        completion_tokens: `cost_usd`, where the router's unit is tokens; None where it is USD.
    """

    quality: tuple[float | None, ...]
    cost_usd: tuple[float | None, ...]
    familiarity: float
    completion_tokens: tuple[float | None, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Router:
    """Predicts quality and cost per model; immutable, so a swap is one assignment."""

    manifest: RouterManifest
    estimator: Estimator
    guard: Guard | None
    version: str = field(init=False)
    """Name of the artefact; kept, since making it costs 2 µs and every turn reads it twice."""
    _columns: Mapping[str, int] = field(init=False, repr=False)
    _one_query: OneQuery | None = field(init=False, repr=False)
    _remembered: dict[tuple[int, tuple[str, ...], str], PoolPrediction] = field(
        init=False, repr=False, default_factory=dict
    )
    _figures: dict[tuple[int, str], RouterPrediction] = field(
        init=False, repr=False, default_factory=dict
    )
    _places: dict[tuple[str, ...], NDArray[np.intp]] = field(
        init=False, repr=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        columns = {model: index for index, model in enumerate(self.estimator.models)}
        for model, aliases in self.manifest.registry.items():
            columns |= {alias: columns[model] for alias in aliases if alias not in columns}
        object.__setattr__(self, "version", self.manifest.version)
        object.__setattr__(self, "_columns", columns)
        guard = self.guard
        one_query = None if guard is None else OneQuery.from_estimator(self.estimator, guard)
        object.__setattr__(self, "_one_query", one_query)

    @property
    def models(self) -> tuple[str, ...]:
        """The models it predicts."""
        return self.estimator.models

    @property
    def unit(self) -> Unit:
        """What its predictions of cost count."""
        return self.manifest.unit

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

    def predict_pool(
        self, embedding: Float32, models: tuple[str, ...], team_id: str = ""
    ) -> PoolPrediction:
        """Predict for one query and the models of a pool, as `decide` reads them.

        The latest predictions are kept: the turns of an agent's loop ask about one query. They are
        kept for each team apart, so that no answer is quicker because another team asked the same.
        """
        embedding = embedding[: self.manifest.dimension]
        # Two vectors of equal 64-bit hash would need 2**32 queries to be likely.
        key = hash(embedding.tobytes()), models, team_id
        known = self._remembered.get(key)
        if known is None:
            if len(self._remembered) >= REMEMBERED_PREDICTIONS:
                self._remembered.clear()
            quality, cost_usd, familiarity = self.predict(embedding)
            is_usd = self.unit == USD
            known = self._remembered[key] = PoolPrediction(
                self._in_order(quality, models),
                self._in_order(cost_usd, models),
                familiarity,
                None if is_usd else self._in_order(cost_usd * np.float32(TOKENS_PER_MTOK), models),
            )
        return known

    def figures(self, embedding: Float32, team_id: str = "") -> RouterPrediction:
        """Predict for one query, as `predict`; the latest predictions are kept for each team."""
        embedding = embedding[: self.manifest.dimension]
        key = hash(embedding.tobytes()), team_id
        known = self._figures.get(key)
        if known is None:
            if len(self._figures) >= REMEMBERED_FIGURES:
                self._figures.clear()
            known = self._figures[key] = self.predict(embedding)
        return known

    def columns(self, models: tuple[str, ...]) -> NDArray[np.intp]:
        """Return where models stand among its own, -1 where it does not know one."""
        places = self._places.get(models)
        if places is None:
            if len(self._places) >= REMEMBERED_POOLS:
                self._places.clear()
            found = [self._columns.get(model, -1) for model in models]
            places = self._places[models] = np.array(found, np.intp)
        return places

    def quality_stderr(
        self, embedding: Float32, models: Sequence[str]
    ) -> tuple[float | None, ...] | None:
        """Standard errors of predicted quality for a pool; None where the estimator has none.

        What Thompson exploration reads. They are of the estimator alone: the guard has no part.
        """
        embedding = embedding[: self.manifest.dimension]
        stderr = self.estimator.quality_stderr(embedding[np.newaxis])
        return None if stderr is None else self._in_order(stderr[0], models)

    def _in_order(self, figures: Float32, models: Sequence[str]) -> tuple[float | None, ...]:
        values, columns = figures.tolist(), map(self._columns.get, models)
        return tuple([None if column is None else values[column] for column in columns])
