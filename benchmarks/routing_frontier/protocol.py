"""Which rows each set is measured on, and the baseline that every router must beat."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from gateway.commands.train import carve
from gateway.problems.datasets import Dataset, read_dataset
from router_models.evaluation.frontier import complete
from router_models.statistics import select
from router_models.types import Evaluations, Float32, Prediction

UNTUNED_ALPHA: Final = 10.0


@dataclass(frozen=True, slots=True)
class Rows:
    """Train, validation and test rows of one set, and the same queries' text.

    Attributes:
        texts: By split, in the order of its rows.
    """

    train: Evaluations
    val: Evaluations
    test: Evaluations
    texts: dict[str, list[str]]


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
    # Row numbers travel as the task, so that every split can find its texts again.
    numbered = replace(found, tasks=tuple(str(i) for i in range(len(found.splits))))
    if "test" in found.splits:
        parts = {name: numbered.evaluations(name) for name in ("train", "val", "test")}
    else:
        train, val = carve(numbered.evaluations("train"))
        parts = {"train": train, "val": val, "test": numbered.evaluations("val")}
    parts["test"] = complete(parts["test"])
    kept = [found.models.index(model) for model in parts["test"].models]
    for name in ("train", "val"):
        part = parts[name]
        parts[name] = replace(
            part,
            quality=part.quality[:, kept],
            cost_usd=part.cost_usd[:, kept],
            models=parts["test"].models,
        )
    texts = {n: [dataset.texts[int(i)] for i in part.tasks] for n, part in parts.items()}
    for name, part in parts.items():
        parts[name] = replace(part, tasks=tuple(dataset.tasks[int(i)] for i in part.tasks))
    return Rows(parts["train"], parts["val"], parts["test"], texts)


def tfidf_features(rows: Rows) -> dict[str, object]:
    """Default TF-IDF, vocabulary and weights from train text alone."""
    vectorizer = TfidfVectorizer()
    vectorizer.fit(rows.texts["train"])
    return {name: vectorizer.transform(texts) for name, texts in rows.texts.items()}


def tfidf_ridge(rows: Rows, features: dict[str, object], alpha: float) -> dict[str, Prediction]:
    """TF-IDF and one ridge regression each for quality and cost; trained on complete rows."""
    full = np.flatnonzero(np.isfinite(rows.train.quality).all(axis=1))
    train = select(rows.train, full)
    matrix = features["train"][full]  # type: ignore[index]
    quality = Ridge(alpha).fit(matrix, train.quality)
    cost = Ridge(alpha).fit(matrix, train.cost_usd)
    return {
        name: Prediction(
            quality.predict(features[name]).astype(np.float32),
            cost.predict(features[name]).astype(np.float32),
        )
        for name in ("val", "test")
    }


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
