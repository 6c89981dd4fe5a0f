"""Small problems whose turns are easy, long or hopeless, and say so in their embedding."""

from collections.abc import Sequence

import numpy as np

from budget.environments.conversation import Problem
from budget.environments.trace import TraceEnvironment, TurnSamples

EMBEDDINGS = {"easy": (1.0, 0.0, 0.0), "long": (0.0, 1.0, 0.0), "hopeless": (0.0, 0.0, 1.0)}
TOKENS = {"easy": 10, "long": 300, "hopeless": 1000}


def trace_environment(
    problems: Sequence[Sequence[str]], decisive: Sequence[Sequence[bool]] | None = None
) -> TraceEnvironment:
    """Make one problem per row of kinds of turns, each with one sample."""
    flags = decisive or [[True] * len(kinds) for kinds in problems]
    return TraceEnvironment(
        tuple(
            Problem(
                f"problem {number}",
                tuple(kinds),
                np.array([EMBEDDINGS[kind] for kind in kinds], np.float32),
                tuple(flags[number]),
            )
            for number, kinds in enumerate(problems)
        ),
        tuple(tuple(_sample(kind) for kind in kinds) for kinds in problems),
    )


def _sample(kind: str) -> TurnSamples:
    return TurnSamples(np.array([[TOKENS[kind]]], np.int32), np.array([[kind != "hopeless"]]))
