"""Small real router artefacts, for whatever stores, swaps or serves them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from router_models.artifacts import sealed_file
from router_models.artifacts.artifact import dump
from router_models.estimators.arrays import Scaler
from router_models.estimators.guard import Guard, GuardedEstimator
from router_models.estimators.kmeans import CellStatistics, KMeansEstimator
from router_models.types import USD, Unit

MODELS = ("small", "large")
CREATED_AT = datetime(2026, 11, 3, 12, tzinfo=UTC)


@dataclass(frozen=True)
class EncoderIdentity:
    """Stands for an encoder where only its identity is asked for."""

    id: str = "static-cheap-1"
    sha256: str = "ab" * 32
    dimension: int = 4


ENCODER = EncoderIdentity()


def guarded_kmeans(
    models: tuple[str, ...] = MODELS, dimension: int = ENCODER.dimension, seed: int = 0
) -> GuardedEstimator:
    """Make a guarded K-means estimator of three clusters from random rows."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((30, dimension)).astype(np.float32)
    quality = rng.random((30, len(models))).astype(np.float32)
    cost = quality * np.float32(0.01)
    statistics = CellStatistics.gather(np.arange(30) % 3, quality, cost, 3)
    centroids = points[:3] / np.linalg.norm(points[:3], axis=1, keepdims=True)
    scaler, tenth = Scaler.identity(dimension), np.full(3, 0.1, np.float32)
    estimator = KMeansEstimator(models, scaler, centroids, tenth, tenth * 100, statistics)
    means = quality.mean(axis=0), cost.mean(axis=0)
    return GuardedEstimator(estimator, Guard(scaler, centroids, tenth * 10, 1.0, 2.0, *means))


def router_artifact(
    seed: int = 0,
    models: tuple[str, ...] = MODELS,
    encoder: sealed_file.EncoderIdentity = ENCODER,
    created_at: datetime = CREATED_AT,
    training: Mapping[str, Any] | None = None,
    unit: Unit = USD,
) -> bytes:
    """Dump such an estimator; another seed gives another version."""
    return dump(
        guarded_kmeans(models, encoder.dimension, seed),
        encoder,
        created_at=created_at,
        training=training or {"seed": seed},
        provenance={"train_queries": 30},
        unit=unit,
    )
