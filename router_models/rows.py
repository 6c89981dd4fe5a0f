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
) -> tuple[Float32, Float32]:
    """Lay answers out by query and model; several of one model to one query are averaged.

    Args:
        queries: Row of the table for each answer.
        models: Column of the table for each answer.
        score: Quality of each answer.
        cost_usd: Cost of each answer.
        shape: Of the table: queries, models.

    Returns:
        Quality and cost, NaN where there is no answer.
    """
    at = queries * shape[1] + models
    size = shape[0] * shape[1]
    count = np.bincount(at, minlength=size)
    with np.errstate(invalid="ignore"):
        quality = np.bincount(at, score, size) / count
        cost = np.bincount(at, cost_usd, size) / count
    return quality.reshape(shape).astype(np.float32), cost.reshape(shape).astype(np.float32)
