"""Between USD and completion tokens: what estimators learn, and what their predictions cost.

Where rows say how many tokens prompts and answers had, estimators learn those of answers. What a
model charges is implied by its rows: cost is prompt tokens times one price and completion tokens
times another.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from router_models.errors import InvalidEvaluations
from router_models.rows import pivot
from router_models.types import (
    COMPLETION_MTOK,
    TOKENS_PER_MTOK,
    USD,
    Evaluations,
    Float32,
    Float64,
    Prediction,
    TokenCounts,
    Unit,
)

LEAST_COUNTED: Final = 0.9
"""Share of a model's rows that must have token counts; learning leaves the others out."""
COLLINEAR: Final = 1e-9
NO_TOKENS: Final = (
    "the router predicts completion tokens, and these rows lack counts of prompt and completion "
    "tokens, by which its predictions could be priced or learned"
)


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """How long prompts are and what models charge: prices what is predicted of the answers.

    Attributes:
        tokens: Shape ``(n_queries, n_models)``, or ``(n_queries, 1)`` where models share them.
        prices: USD per token of a prompt and of a completion; shape ``(2, n_models)``.
    """

    tokens: Float32
    prices: Float64

    @classmethod
    def of(cls, rows: Evaluations) -> "Prompts | None":
        """Take them from a table; what a model did not answer has as many as others were sent."""
        if rows.tokens is None:
            return None
        known = rows.tokens.prompt
        counted = np.isfinite(known)
        sums, count = np.where(counted, known, 0.0).sum(axis=1), counted.sum(axis=1)
        mean = sums.sum() / max(count.sum(), 1)
        of_query = np.where(count > 0, sums / np.maximum(count, 1), mean)
        tokens = np.where(counted, known, of_query[:, None]).astype(np.float32)
        return cls(tokens, rows.tokens.prices)

    def select(self, rows: NDArray[Any]) -> "Prompts":
        """Keep the queries at `rows`, places or a mask."""
        return Prompts(self.tokens[rows], self.prices)

    def usd(self, prediction: Prediction) -> Prediction:
        """Price a prediction of completion tokens."""
        prompt, completion = self.prices
        cost = self.tokens * prompt + prediction.cost_usd * (completion * TOKENS_PER_MTOK)
        return Prediction(prediction.quality, cost.astype(np.float32))


def unit_of(rows: Evaluations) -> Unit:
    """Say what estimators learn from `rows`: completion tokens where they are counted."""
    return USD if rows.tokens is None else COMPLETION_MTOK


def in_unit(rows: Evaluations, unit: Unit) -> Evaluations:
    """Return what estimators learn; answers without token counts are left out of them.

    Raises:
        InvalidEvaluations: Tokens are to be learned, and no row has any.
    """
    if unit == USD:
        return rows
    if rows.tokens is None:
        raise InvalidEvaluations(NO_TOKENS)
    counted = np.isfinite(rows.tokens.prompt) & np.isfinite(rows.tokens.completion)
    nothing = np.float32(np.nan)
    return replace(
        rows,
        quality=np.where(counted, rows.quality, nothing),
        cost_usd=np.where(counted, rows.tokens.completion / np.float32(TOKENS_PER_MTOK), nothing),
        tokens=None,
    )


def in_usd(prediction: Prediction, unit: Unit, prompts: Prompts | None) -> Prediction:
    """Price a prediction.

    Raises:
        InvalidEvaluations: It is of tokens, and nobody knows how long the prompts are.
    """
    if unit == USD:
        return prediction
    if prompts is None:
        raise InvalidEvaluations(NO_TOKENS)
    return prompts.usd(prediction)


def tabulate(
    query: NDArray[np.intp],
    model: NDArray[np.intp],
    prompt: NDArray[Any],
    completion: NDArray[Any],
    cost_usd: NDArray[Any],
    shape: tuple[int, int],
) -> TokenCounts:
    """Lay token counts out as `rows.pivot` does; the arguments are as there."""
    prices = implied_prices(model, prompt, completion, cost_usd, shape[1])
    return TokenCounts(*pivot(query, model, prompt, completion, shape), prices)


def uncounted_models(
    model: NDArray[np.intp], prompt: NDArray[Any], completion: NDArray[Any], n_models: int
) -> NDArray[np.intp]:
    """Return the models too many of whose rows lack token counts.

    Args:
        model: Place of the model of each row.
        prompt: Tokens of each row, NaN where unknown.
        completion: The same.
        n_models: How many models there are.
    """
    counted = np.isfinite(prompt) & np.isfinite(completion)
    rows, known = (np.bincount(model, each, n_models) for each in (None, counted))
    return np.flatnonzero(known < LEAST_COUNTED * rows)


def implied_prices(
    model: NDArray[np.intp],
    prompt: NDArray[Any],
    completion: NDArray[Any],
    cost_usd: NDArray[Any],
    n_models: int,
) -> Float64:
    """Fit each model's two prices to its rows by least squares, neither of them negative.

    Rows at list prices give exactly these. A model whose rows are all alike gets one price for
    both; a model without rows the highest of any: unknown is not free.

    Returns:
        USD per token of a prompt and of a completion; shape ``(2, n_models)``.
    """
    known = np.isfinite(prompt) & np.isfinite(completion) & np.isfinite(cost_usd)
    place = model[known]
    p, c, y = (each[known].astype(np.float64) for each in (prompt, completion, cost_usd))

    def sums(values: Float64) -> Float64:
        found: Float64 = np.bincount(place, values, n_models).astype(np.float64)
        return found

    def ratio(upper: Float64, lower: Float64) -> Float64:
        return np.divide(upper, lower, out=np.zeros(n_models), where=lower > 0)

    pp, cc, pc, py, cy = (sums(each) for each in (p * p, c * c, p * c, p * y, c * y))
    determinant = pp * cc - pc * pc
    inner = np.stack([ratio(py * cc - cy * pc, determinant), ratio(cy * pp - py * pc, determinant)])
    by_prompt, by_completion, nothing = ratio(py, pp), ratio(cy, cc), np.zeros(n_models)
    edge = np.where(
        by_prompt * py > by_completion * cy, [by_prompt, nothing], [nothing, by_completion]
    )
    same = ratio(sums(y), sums(p + c))
    prices = np.where((inner >= 0).all(axis=0), inner, edge)
    prices = np.where(determinant > COLLINEAR * pp * cc, prices, same)
    seen = sums(np.ones_like(y)) > 0
    highest = prices.max(axis=1, where=seen, initial=0.0)
    found: Float64 = np.where(seen, prices, highest[:, None])
    return found
