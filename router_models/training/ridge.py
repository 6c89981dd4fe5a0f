"""Fits the ridge router."""

from router_models.estimators.arrays import Scaler
from router_models.estimators.ridge import RidgeEstimator, RidgeSums
from router_models.statistics import cost_floor
from router_models.training.settings import RidgeSettings
from router_models.types import Evaluations


def fit_ridge(evaluations: Evaluations, settings: RidgeSettings) -> RidgeEstimator:
    """Add up X'X and X'y, from which the estimator solves its heads."""
    scaler = Scaler.fit(evaluations.embeddings)
    scaled = scaler.apply(evaluations.embeddings)
    return RidgeEstimator(
        evaluations.models,
        scaler,
        RidgeSums.gather(scaled, evaluations.quality, evaluations.cost_usd, evaluations.counts),
        settings.alpha,
        cost_floor(evaluations),
    )
