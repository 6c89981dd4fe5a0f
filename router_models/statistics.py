"""Per-model figures of a table of evaluations, and rows to train on."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_models.errors import InvalidEvaluations
from router_models.types import Evaluations, Float32, TokenCounts


def cost_floor(evaluations: Evaluations) -> Float32:
    """Lowest cost seen per model, USD: no prediction should go below; shape ``(n_models,)``."""
    known = np.where(np.isfinite(evaluations.cost_usd), evaluations.cost_usd, np.inf)
    lowest = known.min(axis=0)
    floor: Float32 = np.where(np.isfinite(lowest), lowest, 0.0).astype(np.float32)
    return floor


def model_means(evaluations: Evaluations) -> tuple[Float32, Float32]:
    """Mean quality and cost per model, by weight; shape ``(n_models,)`` each.

    A model without rows counts as an average one at the highest mean cost: unknown is not free.
    """
    counts = evaluations.counts
    quality, cost = (
        (np.where(counts > 0, figures, 0.0) * counts).sum(axis=0, dtype=np.float64)
        for figures in (evaluations.quality, evaluations.cost_usd)
    )
    return means_of_sums(counts.sum(axis=0, dtype=np.float64), quality, cost)


def means_of_sums(
    rows: NDArray[Any], quality_sum: NDArray[np.float64], cost_sum: NDArray[np.float64]
) -> tuple[Float32, Float32]:
    """Mean quality and cost per model from sums over its `rows`; see `model_means`."""
    seen = rows > 0
    safe = np.where(seen, rows, 1)
    quality, cost = quality_sum / safe, cost_sum / safe
    quality = np.where(seen, quality, quality[seen].mean())
    cost = np.where(seen, cost, cost[seen].max())
    return quality.astype(np.float32), cost.astype(np.float32)


def select(evaluations: Evaluations, rows: NDArray[np.intp]) -> Evaluations:
    """Keep the queries at `rows`, in that order."""
    return Evaluations(
        evaluations.embeddings[rows],
        evaluations.quality[rows],
        evaluations.cost_usd[rows],
        evaluations.models,
        tuple(evaluations.tasks[row] for row in rows) if evaluations.tasks else (),
        tuple(evaluations.texts[row] for row in rows) if evaluations.texts else (),
        evaluations.tokens and evaluations.tokens.select(rows),
        None if evaluations.weight is None else evaluations.weight[rows],
    )


def select_models(evaluations: Evaluations, columns: NDArray[np.intp]) -> Evaluations:
    """Keep the models at `columns`, in that order."""
    return replace(
        evaluations,
        quality=evaluations.quality[:, columns],
        cost_usd=evaluations.cost_usd[:, columns],
        models=tuple(evaluations.models[column] for column in columns),
        tokens=evaluations.tokens and evaluations.tokens.select_models(columns),
        weight=None if evaluations.weight is None else evaluations.weight[:, columns],
    )


def join(first: Evaluations, second: Evaluations) -> Evaluations:
    """Put the queries of `second`, about the same models, after those of `first`.

    Tokens stay where both have them, at the prices of `first`.
    """
    one, other = first.tokens, second.tokens
    return Evaluations(
        np.concatenate([first.embeddings, second.embeddings]),
        np.concatenate([first.quality, second.quality]),
        np.concatenate([first.cost_usd, second.cost_usd]),
        first.models,
        first.tasks + second.tasks,
        first.texts + second.texts,
        None
        if one is None or other is None
        else TokenCounts(
            np.concatenate([one.prompt, other.prompt]),
            np.concatenate([one.completion, other.completion]),
            one.prices,
        ),
        None
        if first.weight is None and second.weight is None
        else np.concatenate([first.counts, second.counts]),
    )


def check(evaluations: Evaluations, least_rows: int = 1) -> None:
    """Refuse a table that nothing can be learned from.

    Raises:
        InvalidEvaluations: Shapes disagree, values are out of range or hardly a row is there.
    """
    shape = (len(evaluations.embeddings), len(evaluations.models))
    if evaluations.quality.shape != shape or evaluations.cost_usd.shape != shape:
        raise InvalidEvaluations(
            f"quality {evaluations.quality.shape} and cost {evaluations.cost_usd.shape} must both "
            f"have shape (queries, models) = {shape}"
        )
    answered = np.isfinite(evaluations.quality)
    if not np.array_equal(answered, np.isfinite(evaluations.cost_usd)):
        raise InvalidEvaluations("quality and cost must be known for the same (query, model) pairs")
    if answered.any(axis=1).sum() < least_rows:
        raise InvalidEvaluations(
            f"{int(answered.any(axis=1).sum())} queries with an evaluation; at least {least_rows} "
            "are needed"
        )
    if evaluations.weight is not None:
        _check_weights(evaluations.weight, answered)
    if not np.isfinite(evaluations.embeddings).all():
        raise InvalidEvaluations("an embedding holds values that are not finite")
    quality, cost = evaluations.quality[answered], evaluations.cost_usd[answered]
    if quality.min() < 0 or quality.max() > 1:
        raise InvalidEvaluations("quality must lie between 0 and 1")
    if cost.min() < 0:
        raise InvalidEvaluations("a cost is negative")


def _check_weights(weight: Float32, answered: NDArray[np.bool_]) -> None:
    if weight.shape != answered.shape:
        raise InvalidEvaluations(
            f"weight has shape {weight.shape}; it needs that of quality, {answered.shape}"
        )
    if not ((weight[answered] > 0) & (weight[answered] <= 1)).all():
        raise InvalidEvaluations("a weight must be above 0 and at most 1")
