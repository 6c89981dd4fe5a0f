"""Builds multi-turn problems from real samples of one solver: what the benchmark plays.

A problem is 3 to 6 sub-questions, all decisive, drawn without replacement from one group of
queries. Train, val and test problems share no query: each is drawn from its own split.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet

from gateway.problems.problem_files import ProblemRow

N_PROBLEMS: Final = {"train": 3000, "val": 600, "test": 1000}
TURNS: Final = (3, 4, 5, 6)
CCOT_TIERS: Final = {
    "answer_only": 0,
    "concise_cot": 128,
    "cot": 256,
    "long_cot_with_critique": 512,
}
"""Answer-length modes of concise_cot and the allotment from which each is asked for."""
CCOT_SAMPLES: Final = 10

Sample = tuple[int, int, int, float]
"""sample, tier_tokens, completion_tokens, score"""


@dataclass(frozen=True, slots=True)
class Query:
    """One question with the solver's real answers."""

    text: str
    split: str
    group: str
    samples: tuple[Sample, ...]


def build(
    queries: Sequence[Query], seed: int, draw_turns: Callable[[np.random.Generator], int]
) -> Iterator[ProblemRow]:
    """Draw problems for every split; a group is drawn as often as it has queries."""
    for offset, (split, n_problems) in enumerate(N_PROBLEMS.items()):
        rng = np.random.default_rng([seed, offset])
        groups: dict[str, list[Query]] = defaultdict(list)
        for query in queries:
            if query.split == split:
                groups[query.group].append(query)
        pools = [groups[name] for name in sorted(groups) if len(groups[name]) >= min(TURNS)]
        shares = np.array([len(pool) for pool in pools], float)
        drawn = rng.choice(len(pools), n_problems, p=shares / shares.sum())
        for number, pool in enumerate(drawn.tolist()):
            n_turns = min(draw_turns(rng), len(pools[pool]))
            rows = rng.choice(len(pools[pool]), n_turns, replace=False)
            for turn, row in enumerate(rows.tolist()):
                query = pools[pool][row]
                for sample, tier, tokens, score in query.samples:
                    yield ProblemRow(
                        f"{split}/{number}",
                        turn,
                        query.text,
                        sample,
                        tokens,
                        score,
                        tier_tokens=tier,
                        split=split,
                    )


def evenly(rng: np.random.Generator) -> int:
    """Draw a number of turns."""
    return int(rng.choice(TURNS))


def as_socratic(folder: Path) -> Callable[[np.random.Generator], int]:
    """Draw numbers of turns as the sub-questions of GSM8K problems have them, at least 3."""
    with gzip.open(folder / "gsm8k_socratic_test.jsonl.gz", "rt", encoding="utf-8") as lines:
        lengths = [len(json.loads(line)["steps"]) for line in lines]
    usual = [length for length in lengths if min(TURNS) <= length <= max(TURNS)]
    return lambda rng: int(rng.choice(usual))


def reasoning_gym(folder: Path, model: str, group: str | None) -> list[Query]:
    """Three samples each of 93 generated families; `group` is a column, None mixes them all."""
    samples: dict[str, list[Sample]] = defaultdict(list)
    for row in _rows(folder / "reasoning_gym_samples.parquet"):
        if row["model"] == model and not row["empty"]:
            sample = (row["sample"], 0, row["completion_tokens"], row["score"])
            samples[row["query_id"]].append(sample)
    return [
        Query(row["text"], row["split"], row[group] if group else "", tuple(samples[name]))
        for row in _rows(folder / "reasoning_gym.queries.parquet")
        if samples[name := row["query_id"]]
    ]


def zeroeval(folder: Path, model: str) -> list[Query]:
    """One sample each of gsm8k, crux and math-l5, mixed; the other tasks' lengths are estimates."""
    samples: Mapping[str, Sample] = {
        row["query_id"]: (0, 0, int(row["completion_tokens"]), row["score"])
        for row in _rows(folder / "zeroeval.parquet")
        if row["model"] == model and not row["tokens_estimated"]
    }
    return [
        Query(row["text"], row["split"], "", (samples[row["query_id"]],))
        for row in _rows(folder / "zeroeval.queries.parquet")
        if row["query_id"] in samples
    ]


def concise_cot(folder: Path, model: str) -> list[Query]:
    """Ten samples each at four answer-length modes; of a mode only the mean length is published."""
    answers: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for row in _rows(folder / "concise_cot_4_budgets.parquet"):
        if row["model"] == model:
            answers[row["query_id"]][row["mode"]] = row
    queries = []
    for row in _rows(folder / "concise_cot_4_budgets.queries.parquet"):
        modes = answers[row["query_id"]]
        if set(modes) == set(CCOT_TIERS):
            samples = tuple(
                (n, tier, int(modes[m]["completion_tokens"]), float(n < _n_right(modes[m])))
                for m, tier in CCOT_TIERS.items()
                for n in range(CCOT_SAMPLES)
            )
            queries.append(Query(row["text"], row["split"], row["domain"], samples))
    return queries


def _n_right(row: Mapping[str, Any]) -> int:
    return round(float(row["score"]) * CCOT_SAMPLES)


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    for batch in pyarrow.parquet.ParquetFile(file).iter_batches():
        yield from batch.to_pylist()
