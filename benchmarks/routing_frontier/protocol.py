"""Which rows each set is measured on."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gateway.commands.train import carve
from gateway.problems.datasets import Dataset, read_dataset
from router_models.evaluation.frontier import complete
from router_models.statistics import select_models
from router_models.types import Evaluations


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


def labels_of(name: str, dataset: Dataset) -> tuple[str, ...]:
    """What a task is in each set: its label, or the family or subject inside a set of one task."""
    if name == "reasoning_gym":
        return tuple(query.split("/")[1] for query in dataset.query_ids)
    if name == "mmlu_pro":
        return dataset.domains
    return dataset.tasks
