"""Makes one set of adapters out of several clients'.

A layer learns the product B·A. The mean of several products is not the product of their means, so
averaging A and B apart is inexact; there are two ways that are not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from federation.learning.aggregation import Contribution, Float64, weighted_mean
from federation.reasoner.settings import Aggregation
from router_models.types import Float32

Weights = dict[str, Float32]
"""Adapters by the names peft gives them in a file; A has shape (rank, in), B (out, rank)."""

A_MARK = ".lora_A."
B_MARK = ".lora_B."


@dataclass(frozen=True, slots=True, eq=False)
class Adapters:
    """One client's adapters after a round.

    Attributes:
        weights: By name, all that the round began with.
        count: What they count for, above 0.
    """

    weights: Mapping[str, Any]
    count: float


def trainable_part(aggregation: Aggregation, round_: int) -> Literal["both", "A", "B"]:
    """Tell what learns in a round, counted from 1.

    Alternating begins with B: while B is zero, A has no gradient.
    """
    if aggregation != "alternating":
        return "both"
    return "B" if round_ % 2 else "A"


def aggregate(
    aggregation: Aggregation, round_: int, current: Weights, clients: Sequence[Adapters]
) -> Weights:
    """Return the next adapters; the current ones where there is no client."""
    if not clients:
        return dict(current)
    if aggregation == "product":
        return _product_mean(current, clients)
    part = trainable_part(aggregation, round_)
    # Exact, as everybody's other part is the current one; whoever changed it is not heard.
    moving = [name for name in current if part == "both" or f".lora_{part}." in name]
    contributions = [
        Contribution(
            {name: one.weights[name] for name in moving},
            {name: np.asarray(one.count) for name in moving},
        )
        for one in clients
    ]
    return {**current, **weighted_mean({name: current[name] for name in moving}, contributions)}


def _product_mean(current: Weights, clients: Sequence[Adapters]) -> Weights:
    """Average the products and cut each mean to the rank: the nearest there is (Eckart-Young)."""
    shares = np.array([one.count for one in clients]) / sum(one.count for one in clients)
    result = dict(current)
    for name in current:
        if A_MARK not in name:
            continue
        partner = name.replace(A_MARK, B_MARK)
        a = np.concatenate([one.weights[name] for one in clients]).astype(np.float64)
        b = np.concatenate(
            [share * one.weights[partner] for share, one in zip(shares, clients, strict=True)],
            axis=1,
            dtype=np.float64,
        )
        result[name], result[partner] = _refactor(b, a, current[name].astype(np.float64))
    return result


def _refactor(b: Float64, a: Float64, current: Float64) -> tuple[Float32, Float32]:
    """Return A and B whose product is nearest to `b @ a`.

    The singular values go to B, and A keeps the size it has: where B is still zero A must not be,
    or no gradient would ever reach either. A is then turned as near to the current A as it goes,
    so that the clients' optimisers find the directions they know.
    """
    rank = len(current)
    # The wide product is never formed: its singular vectors lie in the spans of b and a.
    q_out, r_out = np.linalg.qr(b)
    q_in, r_in = np.linalg.qr(a.T)
    left, values, right = np.linalg.svd(r_out @ r_in.T, full_matrices=False)
    size = np.linalg.norm(current) / np.sqrt(rank)
    next_a = size * (right[:rank] @ q_in.T)
    next_b = (q_out @ left[:, :rank]) * values[:rank] / size
    turn_left, _, turn_right = np.linalg.svd(current @ next_a.T, full_matrices=False)
    turn = turn_left @ turn_right
    return (turn @ next_a).astype(np.float32), (next_b @ turn.T).astype(np.float32)
