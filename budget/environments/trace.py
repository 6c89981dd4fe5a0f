"""Replays problems from real samples: lengths and grades of answers that a model once gave."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from budget.environments.conversation import Answer, Problem

ANY_TIER = (0,)
"""The tiers of samples that were drawn without a limit."""


@dataclass(frozen=True, slots=True, eq=False)
class TurnSamples:
    """Real answers to one sub-question.

    Attributes:
        tokens: Length of each; shape ``(n_samples, n_tiers)``.
        is_right: Whether it was right; same shape.
    """

    tokens: NDArray[np.int32]
    is_right: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class TraceSolver:
    """Gives one drawn sample per turn.

    Attributes:
        drawn: Sample of each turn, as ``(tokens, is_right)`` per tier.
        tiers: Limits that the solver was told of when the samples were drawn, ascending.
    """

    drawn: Sequence[tuple[Sequence[int], Sequence[bool]]]
    tiers: tuple[int, ...]

    def answer(self, turn: int, allotted_tokens: int) -> Answer:
        """Replay the sample of the largest tier within the allotment, cut off where that ends."""
        tier = max(sum(limit <= allotted_tokens for limit in self.tiers) - 1, 0)
        tokens, is_right = self.drawn[turn][0][tier], self.drawn[turn][1][tier]
        if tokens > allotted_tokens:
            return Answer(allotted_tokens, is_right=False, was_cut_off=True)
        return Answer(tokens, is_right=is_right, was_cut_off=False)

    def cheapest_right(self, turn: int, smallest: int) -> float:
        """Return the fewest tokens that answer `turn` rightly; infinite where none do.

        No allotment is smaller than `smallest`, so tiers below it cannot be had.
        """
        costs = [
            tokens
            for tokens, is_right, next_limit in zip(
                *self.drawn[turn], (*self.tiers[1:], inf), strict=True
            )
            if is_right and smallest < next_limit and tokens < next_limit
        ]
        return min(costs, default=inf)


@dataclass(frozen=True, slots=True, eq=False)
class TraceEnvironment:
    """Problems with the samples of their turns.

    A turn succeeds under an allotment if the drawn sample is right and no longer than that; the
    final answer is right if every decisive turn is.

    Attributes:
        problems: What can be asked.
        samples: Per problem and turn.
        tiers: Limits that samples were drawn under, for solvers that fit their answer to the limit
            they are told; `ANY_TIER` where there was none.
    """

    problems: tuple[Problem, ...]
    samples: tuple[tuple[TurnSamples, ...], ...]
    tiers: tuple[int, ...] = ANY_TIER

    def start(self, problem: int, rng: np.random.Generator, rollouts: int = 1) -> list[TraceSolver]:
        """Draw one sample per turn, the same for all rollouts."""
        turns = self.samples[problem]
        drawn = []
        for samples, share in zip(turns, rng.random(len(turns)).tolist(), strict=True):
            row = int(share * len(samples.tokens))
            drawn.append((samples.tokens[row].tolist(), samples.is_right[row].tolist()))
        return [TraceSolver(drawn, self.tiers)] * rollouts

    def select(self, rows: Sequence[int]) -> "TraceEnvironment":
        """Keep these problems, in this order."""
        return TraceEnvironment(
            tuple(self.problems[row] for row in rows),
            tuple(self.samples[row] for row in rows),
            self.tiers,
        )

    def describe(self) -> dict[str, Any]:
        """Count what is in it."""
        lengths = [samples.tokens for turns in self.samples for samples in turns]
        return {
            "problems": len(self.problems),
            "turns": sum(len(problem.texts) for problem in self.problems),
            "samples": int(sum(tokens.shape[0] for tokens in lengths)),
        }
