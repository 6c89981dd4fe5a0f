"""Was this query in that site's log? Guesses from what the site sent, and how good they are.

The attacker is the coordinator or whoever reads its disk. It knows every candidate in full (vector,
model, quality, cost), the session's state, and rows of the same site that were not in training (its
test rows): more than a real one would.

Each attack gives every candidate a score, higher for more likely members: a likelihood ratio where
the message is a sum, the change of the candidate's loss against that of other sites where it is a
trained network (LiRA, arXiv 2112.03570, with the other sites as shadow models).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, poisson

from federation.learning.kmeans import Centroids
from router_models.estimators.arrays import Scaler
from router_models.estimators.mlp import MlpEstimator
from router_models.training.kmeans import assign, cluster
from router_models.types import Evaluations, Float32

Float64 = NDArray[np.float64]
Payload = Mapping[str, NDArray[Any]]

RIDGE = 0.1
"""Added to the covariance of features, as a share of its mean variance."""

LEAST_DEVIATION = 1e-9

MOST = 50.0
"""Largest log likelihood ratio, either way: certain enough."""


@dataclass(frozen=True, slots=True, eq=False)
class Guesses:
    """Scores of members and of others, over all sites and seeds."""

    members: Float64
    others: Float64

    @property
    def auc(self) -> float:
        """Chance that a member scores higher than another; 0.5 is guessing."""
        order = np.sort(self.others)
        below = np.searchsorted(order, self.members, "left")
        upto = np.searchsorted(order, self.members, "right")
        return float((below + upto).mean() / (2 * len(order)))

    def found_at(self, false_positive_rate: float) -> float:
        """Share of members found while no more than that share of others is taken for one."""
        threshold = np.quantile(self.others, 1.0 - false_positive_rate, method="higher")
        return float((self.members > threshold).mean())


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What the attacker knows of a site's rows in general.

    Attributes:
        rows: Of the same site, none of them a candidate.
        everybody: Rows of all sites, for covariances.
    """

    rows: Evaluations
    everybody: Evaluations


def by_feature_sums(payload: Payload, candidates: Evaluations, known: Reference) -> Float64:
    """Ask whether the mean vector leans towards the candidate's; Homer et al. 2008, whitened."""
    mean = known.rows.embeddings.mean(axis=0, dtype=np.float64)
    covariance = np.cov(known.everybody.embeddings, rowvar=False)
    covariance += RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    lean = payload["feature_sum"] / max(float(payload["rows"][0]), 1.0) - mean
    scores: Float64 = (candidates.embeddings - mean) @ np.linalg.solve(covariance, lean)
    return scores


def by_centroids(
    payload: Payload, candidates: Evaluations, known: Reference, scaler: Scaler, seed: int
) -> Float64:
    """Ask whether a centroid lies nearer to the candidate than one that never saw it would."""
    sent = Centroids.from_arrays(payload, candidates.embeddings.shape[1])
    unit = scaler.apply_unit(candidates.embeddings)
    if not len(sent.centroids):
        return np.zeros(len(unit))
    _, near = assign(unit, sent.centroids)
    shadow = cluster(scaler.apply_unit(known.rows.embeddings), len(sent.centroids), seed)
    _, usual = assign(unit, shadow)
    scores: Float64 = (usual - near).astype(np.float64)
    return scores


def by_cells(
    payload: Payload,
    candidates: Evaluations,
    known: Reference,
    centroids: Float32,
    scaler: Scaler,
    least_rows: int,
    deviations: Mapping[str, float | Float64],
) -> Float64:
    """Compare the cell's count and sums with and without the candidate in them.

    Args:
        least_rows: Cells of fewer rows were sent as empty.
        deviations: Of the noise in each array, per model; empty where there is none.
    """
    clusters, _ = assign(scaler.apply_unit(candidates.embeddings), centroids)
    model = np.isfinite(candidates.quality).argmax(axis=1)
    at = np.arange(len(model))
    noise = {
        name: np.broadcast_to(deviations.get(name, 0.0), (len(candidates.models),))[model]
        for name in ("count", "quality_sum", "cost_sum")
    }
    count = payload["count"][clusters, model]
    usual = _usual_counts(payload, known, centroids, scaler)[clusters, model]
    told = (count > 0) | (least_rows <= 1)
    scores = np.where(
        told, _count_ratio(count, usual, noise["count"]), _silence_ratio(usual, least_rows)
    )
    for name, values, table in (
        ("quality_sum", candidates.quality, known.everybody.quality),
        ("cost_sum", candidates.cost_usd, known.everybody.cost_usd),
    ):
        mean, deviation = np.nanmean(table, axis=0)[model], np.nanstd(table, axis=0)[model]
        total = payload[name][clusters, model]
        ratio = _sum_ratio(total, values[at, model], count, mean, deviation, noise[name])
        scores += np.where(told, ratio, 0.0)
    return scores


def _usual_counts(
    payload: Payload, known: Reference, centroids: Float32, scaler: Scaler
) -> Float64:
    """What each cell would hold if models did not care for clusters."""
    assigned, _ = assign(scaler.apply_unit(known.rows.embeddings), centroids)
    clusters = np.bincount(assigned, minlength=len(centroids)) + 0.5
    models = np.maximum(payload["count"].sum(axis=0), 0.0) + 0.5
    usual: Float64 = np.outer(clusters / clusters.sum(), models)
    return usual


def _count_ratio(count: Float64, usual: Float64, noise: Float64) -> Float64:
    """Log likelihood ratio of a cell's count, one of which is the candidate or is not."""
    if not noise.any():
        without = poisson.logpmf(np.round(count), usual)
        with_one = poisson.logpmf(np.round(count) - 1, usual)
        certain: Float64 = np.maximum(with_one, -MOST) - without
        return certain
    spread = np.sqrt(usual + noise**2)
    ratio: Float64 = norm.logpdf(count, usual + 1.0, spread) - norm.logpdf(count, usual, spread)
    return ratio


def _silence_ratio(usual: Float64, least_rows: int) -> Float64:
    """Log likelihood ratio of a cell that was too small to be sent."""
    ratio: Float64 = poisson.logcdf(least_rows - 2, usual) - poisson.logcdf(least_rows - 1, usual)
    return ratio


def _sum_ratio(
    total: Float64,
    value: Float64,
    count: Float64,
    mean: Float64,
    deviation: Float64,
    noise: Float64,
) -> Float64:
    """Log likelihood ratio of a sum of `count` values, one of which is `value` or is not."""
    n = np.maximum(count, 0.0)
    others = np.maximum(n - 1.0, 0.0)
    spread_in = np.sqrt(others * deviation**2 + noise**2) + LEAST_DEVIATION
    spread_out = np.sqrt(n * deviation**2 + noise**2) + LEAST_DEVIATION
    ratio: Float64 = norm.logpdf(total, others * mean + value, spread_in) - norm.logpdf(
        total, n * mean, spread_out
    )
    return np.clip(ratio, -MOST, MOST)


def losses(estimator: MlpEstimator, rows: Evaluations) -> Float64:
    """Squared error of quality plus that of the scaled log cost, of the model that answered."""
    prediction = estimator.predict(rows.embeddings)
    model = np.isfinite(rows.quality).argmax(axis=1)
    at = np.arange(len(model)), model
    scale = np.maximum(estimator.cost_scale[1][model], LEAST_DEVIATION)
    cost = (np.log1p(prediction.cost_usd[at]) - np.log1p(rows.cost_usd[at])) / scale
    error: Float64 = (prediction.quality[at] - rows.quality[at]) ** 2.0 + np.clip(cost, -3, 3) ** 2
    return error
