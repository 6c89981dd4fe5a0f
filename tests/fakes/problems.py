"""Small problems whose turns are easy, long or hopeless, and say so in their embedding."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from budget.environments.conversation import Problem
from budget.environments.trace import TraceEnvironment, TurnSamples
from gateway.problems.problem_files import SCHEMA, ProblemRow

EMBEDDINGS = {"easy": (1.0, 0.0, 0.0), "long": (0.0, 1.0, 0.0), "hopeless": (0.0, 0.0, 1.0)}
TOKENS = {"easy": 10, "long": 300, "hopeless": 1000}


def write_problems(rows: Iterable[ProblemRow], file: Path) -> None:
    """Write rows as a problem file."""
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA)
    pyarrow.parquet.write_table(table, file, compression="zstd")


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
