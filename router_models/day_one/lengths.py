"""How many tokens a new model writes, from what known models wrote and a few of its own answers."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from router_models.day_one.belief import Float64

PRIOR_ANSWERS: Final = 8.0
"""How many answers the known models' ratio of tokens to fitted tokens counts for; and how many the
ratio over all queries counts for in each cluster."""

LEAST_NOISE: Final = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class LengthPrior:
    """Log tokens of a new model: a constant and a slope on the known models' mean log tokens.

    Attributes:
        centre: Mean over prompts of the known models' log tokens.
        mean: Of constant and slope; shape ``(2,)``.
        covariance: Shape ``(2, 2)``.
        noise: Variance of one answer's log tokens around the line.
        ratio: Of tokens to the exponential of fitted log tokens.
    """

    centre: float
    mean: Float64
    covariance: Float64
    noise: float
    ratio: float

    def update(self, known: Float64, tokens: Float64, weights: Float64) -> tuple[Float64, Float64]:
        """Fit a model's line to its answers.

        Args:
            known: The known models' mean log tokens at the prompts it answered.
            tokens: How many it wrote.
            weights: Of the clusters at these prompts; shape ``(n, n_clusters)``.

        Returns:
            Constant and slope on the known models' log tokens, and what fitted tokens are
            multiplied by in each cluster: as `FactorsEstimator` has them.
        """
        line = np.stack([np.ones_like(known), known - self.centre], axis=1)
        spread = line @ self.covariance
        inner = spread @ line.T + self.noise * np.eye(len(line))
        target = np.log(np.maximum(tokens, 1.0)) - line @ self.mean
        constant, slope = self.mean + spread.T @ np.linalg.solve(inner, target)
        fitted = np.exp(constant + slope * (known - self.centre))
        factors = token_factors(fitted, tokens, weights, self.ratio)
        return np.array([constant - slope * self.centre, slope]), factors


def token_factors(fitted: Float64, tokens: Float64, weights: Float64, ratio: float) -> Float64:
    """What makes sums of fitted tokens equal sums of tokens, in each cluster.

    Args:
        fitted: Exponentials of fitted log tokens.
        tokens: How many were written.
        weights: Of the clusters; shape ``(n, n_clusters)``.
        ratio: What is expected without an answer.
    """
    if not len(fitted):
        return np.full(weights.shape[1], ratio)
    believed = PRIOR_ANSWERS * float(fitted.mean())
    overall = (tokens.sum() + ratio * believed) / (fitted.sum() + believed)
    factors: Float64 = (tokens @ weights + overall * believed) / (fitted @ weights + believed)
    return factors


def fit_lengths(log_tokens: Float64, tokens: Float64) -> LengthPrior:
    """Leave out each known model and fit its log tokens on the mean of the others.

    Args:
        log_tokens: Of each known model by text, of prompts it has not seen; ``(n, n_known)``.
        tokens: What each wrote; same shape.
    """
    count = tokens.shape[1]
    centre = float(log_tokens.mean())
    written = np.log(np.maximum(tokens, 1.0))
    lines, noises, ratios = [], [], []
    for one in range(count):
        others = np.delete(log_tokens, one, axis=1) if count > 1 else log_tokens
        known = others.mean(axis=1) - centre
        target = written[:, one]
        slope = ((known - known.mean()) @ target) / max(((known - known.mean()) ** 2).sum(), 1e-9)
        constant = target.mean() - slope * known.mean()
        fitted = constant + slope * known
        lines.append((constant, slope))
        noises.append(((target - fitted) ** 2).mean())
        ratios.append(tokens[:, one].sum() / np.exp(fitted).sum())
    apart = np.cov(np.array(lines).T) if count > 2 else np.eye(2)
    return LengthPrior(
        centre,
        np.mean(lines, axis=0),
        apart * (1.0 + 1.0 / count) + 1e-3 * np.eye(2),
        max(float(np.mean(noises)), LEAST_NOISE),
        float(np.mean(ratios)),
    )
