"""Which prompts to ask a new model next."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from router_models.day_one.belief import Belief, Float64, Items, sigmoid

BATCH: Final = 5
"""Prompts asked before the belief is updated and the next ones are chosen."""


ADAPTIVE_PROMPTS: Final = 40
"""Prompts after which choosing has told what it can; further ones are drawn at random."""

RANDOM_SHARE: Final = 0.5
"""Of the prompts, drawn at random: a hedge against profiles that do not transfer after all."""

LARGEST_RESIDUAL: Final = 0.3
"""The gate; see `transfers`."""


def transfers(residual: float) -> bool:
    """Say whether what sets known models apart sets new ones apart, so that choosing helps.

    Args:
        residual: Of `Spread`: variance of logits that axes do not explain, leaving one model out.
    """
    return residual < LARGEST_RESIDUAL


LARGEST_SHARE: Final = 0.5


def kmeans_share(residual: float, answers: int, *, is_known: bool) -> float:
    """What K-means, learned from the same answers, counts for in the predictions of a model.

    The floor: the less known models tell of new ones, the more their own answers by cluster count.
    Of known models linear heads and K-means err differently, and their mean errs less than either.

    Args:
        residual: As of `transfers`.
        answers: Of the model; without any K-means knows nothing of it.
        is_known: It is one of those that the prior learned from.
    """
    if is_known:
        return LARGEST_SHARE
    return min(LARGEST_SHARE, residual) if answers else 0.0


def target_moments(belief: Belief, base: Float64, design: Float64) -> Float64:
    """How much each direction of the belief matters to predictions for these queries.

    Args:
        belief: Of the model.
        base: Logits of the queries at the origin; the best queries are the callers' own.
        design: What multiplies a model's numbers; shape ``(n_queries, width)``.

    Returns:
        Mean of the squared slopes of the predicted scores; shape ``(width, width)``.
    """
    probability = sigmoid(base + design @ belief.mean)
    slopes = design * (probability * (1.0 - probability))[:, None]
    moments: Float64 = slopes.T @ slopes / len(slopes)
    return moments


def choose(
    belief: Belief,
    items: Items,
    moments: Float64,
    count: int,
    *,
    random_share: float,
    free: NDArray[np.bool_],
    rng: np.random.Generator,
) -> list[int]:
    """Choose prompts whose answers lower the expected squared error of predictions most.

    Args:
        items: All prompts there are.
        moments: What matters, see `target_moments`.
        count: How many to choose; fewer where fewer are free.
        random_share: Of the prompts that are drawn at random, from 0 to 1.
        free: Which items have not been asked.

    Returns:
        Places of the chosen items.
    """
    covariance, left, chosen = belief.covariance.copy(), free.copy(), list[int]()
    noise = items.noise(belief.mean)
    for turn in range(min(count, int(free.sum()))):
        is_random = int((turn + 1) * random_share) > int(turn * random_share)
        if is_random:
            place = int(rng.choice(np.flatnonzero(left)))
        else:
            place = _most_telling(covariance, items.design, noise, moments, left)
        chosen.append(place)
        left[place] = False
        row = covariance @ items.design[place]
        covariance -= np.outer(row, row) / (items.design[place] @ row + noise[place])
    return chosen


def _most_telling(
    covariance: Float64,
    design: Float64,
    noise: Float64,
    moments: Float64,
    left: NDArray[np.bool_],
) -> int:
    """Find the item that lowers the trace of ``moments @ covariance`` most."""
    spread = design @ covariance
    variance = np.einsum("ij,ij->i", spread, design)
    gain = np.einsum("ij,ij->i", spread @ moments, spread) / (variance + noise)
    return int(np.where(left, gain, -np.inf).argmax())
