"""K-means learned from a new model's own answers: what counts where little transfers."""

from collections.abc import Sequence

import numpy as np

from router_models.day_one.answers import Answers
from router_models.day_one.choice import kmeans_share
from router_models.estimators.arrays import Scaler
from router_models.estimators.factors import FactorsEstimator, QueryProfile
from router_models.estimators.kmeans import CellStatistics, KMeansEstimator
from router_models.estimators.mixture import MixtureEstimator
from router_models.types import TOKENS_PER_MTOK, Estimator


def with_floor(
    factors: FactorsEstimator, answers: Sequence[Answers | None], residual: float
) -> Estimator:
    """Mix K-means into the predictions of new models that answered something.

    Args:
        factors: Predicts completion tokens as cost, in millions.
        answers: Of each model of `factors`; None where it has none.
        residual: As of `choice.transfers`.
    """
    share = np.array(
        [
            kmeans_share(residual, 0 if own is None else len(own), is_known=False)
            if base < 0
            else 0.0
            for base, own in zip(factors.base.tolist(), answers, strict=True)
        ],
        np.float32,
    )
    if not share.any():
        return factors
    profile = factors.profile
    count = len(profile.centroids)
    cells = KMeansEstimator(
        factors.models,
        Scaler.identity(factors.dimension),
        profile.centroids,
        np.ones(count, np.float32),
        np.ones(count, np.float32),
        _sums(profile, answers),
    )
    return MixtureEstimator(cells, factors, share, share)


def _sums(profile: QueryProfile, answers: Sequence[Answers | None]) -> CellStatistics:
    """Add up scores and tokens by nearest cluster; a grade of half the weight is half a row."""
    sums = np.zeros((5, len(profile.centroids), len(answers)))
    for column, own in enumerate(answers):
        if own is None:
            continue
        nearest = (own.embeddings @ profile.centroids.T).argmax(axis=1)
        counted = np.isfinite(own.tokens)
        mean = float(own.tokens[counted].mean()) if counted.any() else 0.0
        mtok = np.where(counted, own.tokens, mean) / TOKENS_PER_MTOK
        figures = (own.score, own.score**2, mtok, mtok**2, np.ones(len(own)))
        for row, figure in enumerate(figures):
            np.add.at(sums[row, :, column], nearest, own.weight * figure)
    return CellStatistics(*sums)
