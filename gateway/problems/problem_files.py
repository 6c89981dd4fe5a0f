"""Reads files of multi-turn problems, the traces that budget policies learn from.

The form: ``docs/reference/problem-file.md``. Needs pyarrow, so nothing that serves imports this.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from budget.environments.conversation import Problem
from budget.environments.trace import TraceEnvironment, TurnSamples
from budget.errors import InvalidProblems
from router_models.types import Encoder, Float32

RIGHT_SCORE: Final = 0.99
"""From here on an answer counts as right; partial credit does not solve a problem."""

ENCODE_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True)
class ProblemRow:
    """One real answer to one sub-question; the fields are the file's columns.

    Attributes:
        problem_id: Name of the problem.
        turn: Of the sub-question, from 0, without gaps.
        text: The sub-question; the same in every row of a turn.
        sample: Number of the answer; the same numbers in every tier of a turn.
        completion_tokens: Its length, thinking included.
        score: 0 to 1.
        is_decisive: The final answer is right only if this turn is.
        tier_tokens: Limit that the solver was told of; 0 where there was none.
        split: train, val or test; the same for the whole problem.
    """

    problem_id: str
    turn: int
    text: str
    sample: int
    completion_tokens: int
    score: float
    is_decisive: bool = True
    tier_tokens: int = 0
    split: str = "train"


SCHEMA: Final = pa.schema(
    [
        ("problem_id", pa.string()),
        ("turn", pa.int32()),
        ("text", pa.string()),
        ("sample", pa.int32()),
        ("completion_tokens", pa.int32()),
        ("score", pa.float32()),
        ("is_decisive", pa.bool_()),
        ("tier_tokens", pa.int32()),
        ("split", pa.string()),
    ]
)
REQUIRED: Final = SCHEMA.names[:6]


def read_problems(file: Path) -> list[ProblemRow]:
    """Read the rows of a problem file, in its order.

    Raises:
        InvalidProblems: The file cannot be read, a column is missing or of another type, or a
            value is empty or out of range.
    """
    if not file.is_file():
        raise InvalidProblems(f"{file} does not exist")
    try:
        table = pyarrow.parquet.read_table(file)
        missing = [name for name in REQUIRED if name not in table.column_names]
        if missing:
            raise InvalidProblems(f"{file} lacks the column {', '.join(map(repr, missing))}")
        table = table.select([name for name in SCHEMA.names if name in table.column_names])
        table = table.cast(pa.schema([SCHEMA.field(name) for name in table.column_names]))
    except (pa.ArrowException, OSError) as error:
        raise InvalidProblems(f"{file} cannot be read as a problem file: {error}") from error
    empty = [name for name in table.column_names if table[name].null_count]
    if empty:
        raise InvalidProblems(f"{file}: column {empty[0]!r} has empty values")
    rows = [ProblemRow(**row) for row in table.to_pylist()]
    for row in rows:
        # NaN fails the comparison too.
        if row.turn < 0 or row.completion_tokens < 0 or not 0.0 <= row.score <= 1.0:
            raise InvalidProblems(
                f"{file}: problem {row.problem_id!r} turn {row.turn}: turn and completion_tokens "
                "must not be negative, score must lie between 0 and 1"
            )
    return rows


def build_environment(
    rows: Sequence[ProblemRow], encoder: Encoder, split: str | None = None
) -> TraceEnvironment:
    """Gather rows into problems and embed their sub-questions.

    Args:
        rows: Of a problem file.
        encoder: Embeds each distinct text once.
        split: Only these problems; None means all.

    Raises:
        InvalidProblems: There is no such problem, turns have gaps, or a sample lacks a tier.
    """
    turns: dict[str, dict[int, list[ProblemRow]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if split is None or row.split == split:
            turns[row.problem_id][row.turn].append(row)
    if not turns:
        found = ", ".join(sorted({row.split for row in rows})) or "no row"
        raise InvalidProblems(f"no problem in split {split!r}; the file has {found}")
    tiers = tuple(sorted({row.tier_tokens for row in rows}))
    texts = {found[0].text for problem in turns.values() for found in problem.values()}
    embeddings = _embed(sorted(texts), encoder)
    problems, samples = [], []
    for problem_id, by_turn in turns.items():
        if sorted(by_turn) != list(range(len(by_turn))):
            raise InvalidProblems(f"problem {problem_id!r}: its turns must be numbered 0, 1, 2 ...")
        firsts = [by_turn[turn][0] for turn in range(len(by_turn))]
        problems.append(
            Problem(
                problem_id,
                tuple(first.text for first in firsts),
                np.stack([embeddings[first.text] for first in firsts]),
                tuple(first.is_decisive for first in firsts),
            )
        )
        samples.append(tuple(_samples(by_turn[turn], tiers) for turn in range(len(by_turn))))
    return TraceEnvironment(tuple(problems), tuple(samples), tiers)


def _embed(texts: Sequence[str], encoder: Encoder) -> Mapping[str, Float32]:
    blocks = [
        encoder.encode(texts[start : start + ENCODE_AT_ONCE])
        for start in range(0, len(texts), ENCODE_AT_ONCE)
    ]
    return dict(zip(texts, np.concatenate(blocks), strict=True))


def _samples(rows: Sequence[ProblemRow], tiers: tuple[int, ...]) -> TurnSamples:
    cells = {(row.sample, row.tier_tokens): row for row in rows}
    numbers = sorted({row.sample for row in rows})
    lacking = [(n, tier) for n in numbers for tier in tiers if (n, tier) not in cells]
    if lacking or len(cells) != len(rows):
        row = rows[0]
        raise InvalidProblems(
            f"problem {row.problem_id!r} turn {row.turn}: every sample needs one row in each of "
            f"the tiers {', '.join(map(str, tiers))}"
        )
    grid = [[cells[n, tier] for tier in tiers] for n in numbers]
    return TurnSamples(
        np.array([[row.completion_tokens for row in line] for line in grid], np.int32),
        np.array([[row.score >= RIGHT_SCORE for row in line] for line in grid], bool),
    )
