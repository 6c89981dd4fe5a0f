"""Reads tables of evaluations with the tokens of each answer, and the prices they were charged."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from gateway.problems.datasets import Dataset, read_dataset
from router_models.types import Encoder, Float32

LEAST_COVERAGE: Final = 0.95
"""A model that answered fewer of the queries is left out; queries that any other one lacks, too."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Every query with what every model made of it; nothing is missing.

    Attributes:
        score: In [0, 1]; shape ``(n_queries, n_models)``.
        cost_usd: As charged; same shape.
        completion_tokens: Same shape; 0 where the table has none.
        prompt_tokens: Shape ``(n_queries,)``.
        price: USD per million prompt and completion tokens; shape ``(n_models, 2)``.
        can_route: Models whose costs are known in full; the others are known, never routed to.
        is_test: Which queries are measured on; the others may be learned from.
    """

    models: tuple[str, ...]
    embeddings: Float32
    score: Float64
    cost_usd: Float64
    completion_tokens: Float64
    prompt_tokens: Float64
    price: Float64
    can_route: NDArray[np.bool_]
    is_test: NDArray[np.bool_]


def read_table(path: Path, encoder: Encoder) -> Table:
    """Read a table in the long form that `read_dataset` reads, and its tokens."""
    dataset = read_dataset(path).embedded(encoder)
    assert dataset.embeddings is not None
    covered = np.isfinite(dataset.quality).mean(axis=0) >= LEAST_COVERAGE
    whole = np.isfinite(dataset.quality[:, covered]).all(axis=1)
    prompt, completion = read_tokens(path, dataset)
    keep = np.ix_(whole, covered)
    cost, completion = dataset.cost_usd[keep].astype(np.float64), completion[keep]
    prompt_tokens = prompt[keep].mean(axis=1)
    splits = np.array(dataset.splits)[whole]
    models = tuple(m for m, is_kept in zip(dataset.models, covered, strict=True) if is_kept)
    return Table(
        models,
        dataset.embeddings[whole],
        dataset.quality[keep].astype(np.float64),
        cost,
        completion,
        prompt_tokens,
        np.array(
            [list_price(prompt_tokens, *both) for both in zip(completion.T, cost.T, strict=True)]
        ),
        np.array([model not in dataset.hidden_reasoning for model in models]),
        splits == ("test" if "test" in splits else "val"),
    )


def read_tokens(path: Path, dataset: Dataset) -> tuple[Float64, Float64]:
    """Prompt and completion tokens of each answer; shape ``(n_queries, n_models)`` each.

    Answers of models that were left out of `dataset` are left out here.
    """
    rows = pyarrow.parquet.read_table(path)
    query_of = {name: place for place, name in enumerate(dataset.query_ids)}
    model_of = {name: place for place, name in enumerate(dataset.models)}
    rows = rows.filter(pc.is_in(rows["model"], pa.array(dataset.models)))
    query = np.array([query_of[str(name)] for name in rows["query_id"].to_pylist()], np.intp)
    model = np.array([model_of[name] for name in rows["model"].to_pylist()], np.intp)
    found = []
    for column in ("prompt_tokens", "completion_tokens"):
        tokens = np.zeros(dataset.quality.shape)
        if column in rows.column_names:
            tokens[query, model] = rows[column].to_numpy(zero_copy_only=False)
        found.append(np.nan_to_num(tokens))
    return found[0], found[1]


def list_price(prompt: Float64, completion: Float64, cost: Float64) -> Float64:
    """List prices, read from what was charged: USD per million prompt and completion tokens."""
    tokens = np.stack([prompt, completion], axis=1) / 1e6
    if not completion.any():
        return np.array([cost.sum() / tokens[:, 0].sum(), 0.0])
    price: Float64 = np.maximum(np.linalg.lstsq(tokens, cost, rcond=None)[0], 0.0)
    return price
