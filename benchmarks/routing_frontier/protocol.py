"""Which rows each set is measured on."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.commands.train import carve
from gateway.problems.datasets import Dataset, read_dataset
from router_models.evaluation.frontier import complete
from router_models.statistics import select, select_models
from router_models.types import Evaluations, Float32


@dataclass(frozen=True, slots=True)
class Rows:
    """Train, validation and test rows of one set."""

    train: Evaluations
    val: Evaluations
    test: Evaluations


def read(folder: Path, name: str) -> Dataset:
    """Read a set and keep the models that its figures are quoted for."""
    dataset = read_dataset(folder / f"{name}.parquet")
    if name == "zeroeval":
        # Dense: the models that answered all five tasks, costs known in full.
        dataset = dataset.without_hidden_reasoning()
        coverage = np.isfinite(dataset.quality).mean(axis=0)
        return dataset.with_models(
            [m for m, c in zip(dataset.models, coverage, strict=True) if c == 1]
        )
    if name == "reasoning_gym":
        answered = np.isfinite(dataset.quality).sum(axis=0)
        return dataset.with_models(
            [m for m, n in zip(dataset.models, answered, strict=True) if n == answered.max()]
        )
    return dataset


def rows_of(dataset: Dataset, splits: tuple[str, ...] | None = None) -> Rows:
    """Split a set; where there is no test split, val is measured and train is carved."""
    found = replace(dataset, splits=splits) if splits else dataset
    if "test" in found.splits:
        train, val, test = (found.evaluations(name) for name in ("train", "val", "test"))
    else:
        train, val = carve(found.evaluations("train"))
        test = found.evaluations("val")
    test = complete(test)
    kept = np.array([found.models.index(model) for model in test.models], np.intp)
    return Rows(select_models(train, kept), select_models(val, kept), test)


def random_splits(n_queries: int, seed: int) -> tuple[str, ...]:
    """70 % train, 10 % val, 20 % test at random."""
    draw = np.random.default_rng(seed).random(n_queries)
    names = np.where(draw < 0.7, "train", np.where(draw < 0.8, "val", "test"))
    return tuple(names.tolist())


def without(
    evaluations: Evaluations, labels: NDArray[np.str_], held_out: list[str], *, inside: bool
) -> Evaluations:
    """Keep the rows whose label is held out, or those whose label is not."""
    return select(evaluations, np.flatnonzero(np.isin(labels, held_out) == inside))


def load_embeddings(path: Path, query_ids: tuple[str, ...]) -> Float32:
    """Read ``query_id`` and ``embeddings`` from an npz file, in the order of `query_ids`."""
    with np.load(path) as stored:
        row_of = {name: row for row, name in enumerate(stored["query_id"].tolist())}
        embeddings: Float32 = stored["embeddings"]
    return embeddings[[row_of[name] for name in query_ids]].astype(np.float32)
