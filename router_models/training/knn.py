"""Fits the nearest-neighbour router, which only has to remember."""

import numpy as np

from router_models.estimators.arrays import Scaler
from router_models.estimators.knn import NearestNeighbours
from router_models.training.settings import KnnSettings
from router_models.types import Evaluations


def fit_knn(evaluations: Evaluations, settings: KnnSettings) -> NearestNeighbours:
    """Keep every query with what the models did on it."""
    embeddings = evaluations.embeddings
    dimension = embeddings.shape[1]
    scaler = Scaler.fit(embeddings) if settings.standardized else Scaler.identity(dimension)
    answered = np.isfinite(evaluations.quality)
    weight = None if evaluations.weight is None else evaluations.counts
    return NearestNeighbours(
        evaluations.models,
        scaler,
        scaler.apply_unit(embeddings),
        np.where(answered, evaluations.quality, -1.0).astype(np.float32),
        np.where(answered, evaluations.cost_usd, -1.0).astype(np.float32),
        settings.neighbours,
        settings.prior_rows,
        weight,
    )
