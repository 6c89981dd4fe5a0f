"""From rows, one answer each, to the tables that estimators learn from."""

import numpy as np
from numpy.typing import NDArray

from router_models.types import Float32


def pivot(
    queries: NDArray[np.intp],
    models: NDArray[np.intp],
    score: NDArray[np.floating],
    cost_usd: NDArray[np.floating],
    shape: tuple[int, int],
    weight: NDArray[np.floating] | None = None,
) -> tuple[Float32, Float32]:
    """Lay answers out by query and model; several of one model to one query are averaged.

    What an answer cost is known whatever its grade is worth, so costs are averaged without weights.

    Args:
        queries: Row of the table for each answer.
        models: Column of the table for each answer.
        score: Quality of each answer.
        cost_usd: Cost of each answer.
        shape: Of the table: queries, models.
        weight: What each answer's quality counts for; None where each is one.

    Returns:
        Quality and cost, NaN where there is no answer.
    """
    at = queries * shape[1] + models
    size = shape[0] * shape[1]
    count = np.bincount(at, minlength=size)
    with np.errstate(invalid="ignore"):
        total = count if weight is None else np.bincount(at, weight, size)
        quality = np.bincount(at, score if weight is None else score * weight, size) / total
        cost = np.bincount(at, cost_usd, size) / count
    return quality.reshape(shape).astype(np.float32), cost.reshape(shape).astype(np.float32)


def pivot_weight(
    queries: NDArray[np.intp],
    models: NDArray[np.intp],
    weight: NDArray[np.floating],
    shape: tuple[int, int],
) -> Float32:
    """Lay weights out as `pivot` does: of several answers they add up, to 1 at most."""
    total = np.bincount(queries * shape[1] + models, weight, shape[0] * shape[1])
    return np.minimum(total, 1.0).reshape(shape).astype(np.float32)


def all_one(weight: NDArray[np.floating]) -> bool:
    """Whether no weight says anything: then a table is better without."""
    return bool((weight == 1.0).all())
