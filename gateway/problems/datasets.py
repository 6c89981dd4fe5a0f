"""Reads tables of evaluations from parquet or CSV files, in either of two forms.

Long form: a row per query and model, with the queries' text and split in ``<name>.queries.parquet``
beside it. Single form, which ``waypost log export`` writes: the same rows with `query_embedding`
or `text` in them. Needs pyarrow, so nothing that serves imports this.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gateway.problems import columns
from gateway.problems.table_files import SUFFIXES, read_table, suffix_of
from router_models.artifacts.sealed_file import RequestEncoder
from router_models.encoders.request_shape import SUFFIX, WIDTH, encoder_ids
from router_models.errors import InvalidEvaluations
from router_models.estimators.arrays import fit_width
from router_models.pricing import LEAST_COUNTED, tabulate, uncounted_models
from router_models.rows import all_one, pivot, pivot_weight
from router_models.types import Encoder, Evaluations, Float32, TokenCounts

SPLITS = ("train", "val", "test")
NEEDED = ("query_id", "model", "score")
COUNTS = ("prompt_tokens", "completion_tokens")
ENCODE_AT_ONCE = 256


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Every query of a table with what each model made of it.

    Attributes:
        query_ids: One per query.
        texts: Of each query; empty where the table holds embeddings instead.
        embeddings: Shape ``(n_queries, dimension)``; None until `embedded`.
        encoder_id: Which encoder made the embeddings; empty without them.
        splits: train, val or test per query.
        tasks: Label per query, empty strings where unknown.
        domains: Finer label per query, empty strings where unknown.
        models: Names of the columns.
        quality: Shape ``(n_queries, n_models)``; NaN where the model did not answer.
        cost_usd: Same shape; NaN in the same places.
        hidden_reasoning: Models whose stored costs lack their thinking tokens.
        tokens: Of prompts and completions; None where the table does not count them.
        notes: What was left out or averaged when the table was read, a sentence each.
        weight: How much is learned from each answer, shape as of `quality`; None where that is the
            same for all.
    """

    query_ids: tuple[str, ...]
    texts: tuple[str, ...]
    embeddings: Float32 | None
    encoder_id: str
    splits: tuple[str, ...]
    tasks: tuple[str, ...]
    domains: tuple[str, ...]
    models: tuple[str, ...]
    quality: Float32
    cost_usd: Float32
    hidden_reasoning: frozenset[str] = frozenset()
    tokens: TokenCounts | None = None
    notes: tuple[str, ...] = ()
    weight: Float32 | None = None

    def embedded(self, encoder: Encoder) -> "Dataset":
        """Return the same queries as this encoder's vectors, of whole requests where known.

        Raises:
            InvalidEvaluations: The table's embeddings are another encoder's, and it has no text.
        """
        if self.embeddings is not None and self.encoder_id in encoder_ids(encoder.id):
            known = RequestEncoder.of(encoder) if self.encoder_id != encoder.id else encoder
            if self.embeddings.shape[1] != known.dimension:
                raise InvalidEvaluations(
                    f"embeddings of {known.id} have {known.dimension} dimensions, "
                    f"the table's have {self.embeddings.shape[1]}"
                )
            return self
        if not self.texts:
            raise InvalidEvaluations(
                f"the table holds embeddings of encoder {self.encoder_id or 'unknown'!r} and no "
                f"text, so {encoder.id!r} cannot read it; choose that encoder, or export with text"
            )
        blocks = [
            encoder.encode(self.texts[start : start + ENCODE_AT_ONCE])
            for start in range(0, len(self.texts), ENCODE_AT_ONCE)
        ]
        return replace(self, embeddings=np.concatenate(blocks), encoder_id=encoder.id)

    def with_models(self, models: Sequence[str]) -> "Dataset":
        """Keep these models, in this order.

        Raises:
            InvalidEvaluations: One is not in the table, or none is asked for.
        """
        missing = [model for model in models if model not in self.models]
        if missing or not models:
            raise InvalidEvaluations(f"the table has no model {', '.join(missing) or 'at all'}")
        columns = [self.models.index(model) for model in models]
        return replace(
            self,
            models=tuple(models),
            quality=self.quality[:, columns],
            cost_usd=self.cost_usd[:, columns],
            tokens=self.tokens and self.tokens.select_models(columns),
            weight=None if self.weight is None else self.weight[:, columns],
        )

    def without_hidden_reasoning(self) -> "Dataset":
        """Leave out the models whose costs are understated.

        Raises:
            InvalidEvaluations: No other model is there.
        """
        return self.with_models([m for m in self.models if m not in self.hidden_reasoning])

    def evaluations(self, split: str | None = None) -> Evaluations:
        """Return the queries of one split, or all, that at least one model answered.

        Raises:
            InvalidEvaluations: There is no such query, or `embedded` was not called.
        """
        if self.embeddings is None:
            raise InvalidEvaluations("the queries have no embeddings yet; encode them first")
        inside = np.array([split is None or found == split for found in self.splits], bool)
        rows = np.flatnonzero(inside & np.isfinite(self.quality).any(axis=1))
        if not len(rows):
            raise InvalidEvaluations(
                f"no evaluation in split {split!r}; the table has "
                f"{', '.join(sorted(set(self.splits)))}"
            )
        return Evaluations(
            self.embeddings[rows],
            self.quality[rows],
            self.cost_usd[rows],
            self.models,
            tuple(self.tasks[row] for row in rows),
            tuple(self.texts[row] for row in rows) if self.texts else (),
            self.tokens and self.tokens.select(rows),
            None if self.weight is None else self.weight[rows],
        )


def split_of(key: str) -> str:
    """Put a query into train (70 %), val (10 %) or test (20 %) by a hash of its words.

    The same question lands in the same split whatever table it is found in.
    """
    words = " ".join(key.lower().split())
    share = int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big") / 2**32
    if share < 0.7:
        return "train"
    return "val" if share < 0.8 else "test"


def read_dataset(path: Path, *, skip_incomplete: bool = False) -> Dataset:
    """Read a table of evaluations and, in the long form, the queries beside it.

    Args:
        path: Of the table.
        skip_incomplete: Leave out rows without a query, a model, a score or a cost, and say so in
            `Dataset.notes`. A row with no score at all was never graded and is always left out.

    Raises:
        InvalidEvaluations: A file is missing or unreadable, a column is missing, or values are out
            of range; the message names the column and the first such row.
    """
    rows = read_table(path)
    columns.require(rows, NEEDED, path)
    rows = columns.number_rows(rows)
    rows = rows.filter(pc.is_valid(rows["score"]))
    rows, notes = columns.drop_incomplete(rows, path) if skip_incomplete else (rows, [])
    if rows.num_rows == 0:
        raise InvalidEvaluations(f"{path} holds no graded row")
    score = columns.read_numbers(rows, "score", path)
    columns.refuse(rows, (score < 0) | (score > 1), path, "column 'score' must lie between 0 and 1")
    cost = _cost_usd(rows, path)
    queries = _queries(path, rows)
    ids = cast("list[str]", queries["query_id"].to_pylist())
    names = columns.read_strings(rows, "model", path)
    models = tuple(sorted(set(names)))
    query, model = (
        _places(columns.read_strings(rows, "query_id", path), ids),
        _places(names, models),
    )
    shape = (len(ids), len(models))
    weight = _weights(rows, path)
    quality, cost_usd = pivot(query, model, score, cost, shape, weight)
    counts, uncounted = _token_counts(rows, path, model, models)
    tokens = counts and tabulate(query, model, *counts, cost, shape)
    texts = _texts(queries, path)
    embeddings, encoder_id = None, ""
    if not texts or _tells_of_requests(queries):
        embeddings, encoder_id = _embeddings(queries, path)
    return Dataset(
        query_ids=tuple(ids),
        texts=texts,
        embeddings=embeddings,
        encoder_id=encoder_id,
        splits=_splits(queries, texts or tuple(ids), path),
        tasks=_labels(queries, "task"),
        domains=_labels(queries, "domain"),
        models=models,
        quality=quality,
        cost_usd=cost_usd,
        hidden_reasoning=_hidden(rows, names),
        tokens=tokens,
        notes=(
            *notes,
            *uncounted,
            *columns.repeated_answers(rows, query * len(models) + model),
            *columns.doubts(score, cost, models),
        ),
        weight=None if weight is None else pivot_weight(query, model, weight, shape),
    )


def _weights(rows: pa.Table, path: Path) -> NDArray[np.float64] | None:
    """Read what each grade says of its answer; None where nothing is said, or always the same."""
    if "score_weight" not in rows.column_names:
        return None
    weight = columns.read_numbers_or_nan(rows, "score_weight", path)
    weight = np.where(np.isnan(weight), 1.0, weight)
    complaint = "column 'score_weight' must be above 0 and at most 1"
    columns.refuse(rows, ~((weight > 0) & (weight <= 1)), path, complaint)
    return None if all_one(weight) else weight


def _labels(queries: pa.Table, column: str) -> tuple[str, ...]:
    return tuple(
        "" if label is None else str(label) for label in columns.read_optional(queries, column)
    )


def _cost_usd(rows: pa.Table, path: Path) -> NDArray[np.float64]:
    """USD per call, from its column or from a price per million tokens."""
    if "cost_usd" in rows.column_names:
        cost = columns.read_numbers(rows, "cost_usd", path)
    elif {"price_per_mtok", "prompt_tokens"} <= set(rows.column_names):
        tokens = columns.read_numbers(rows, "prompt_tokens", path)
        if "completion_tokens" in rows.column_names:
            tokens = tokens + columns.read_numbers(rows, "completion_tokens", path)
        cost = tokens * columns.read_numbers(rows, "price_per_mtok", path) / 1e6
    else:
        raise InvalidEvaluations(
            f"{path} lacks the column 'cost_usd' (or 'price_per_mtok' with 'prompt_tokens')"
        )
    columns.refuse(rows, cost < 0, path, "a cost is negative")
    return cost


def _token_counts(
    rows: pa.Table, path: Path, model: NDArray[np.intp], models: Sequence[str]
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]] | None, list[str]]:
    """Read the tokens of prompts and completions where nearly all rows have them; else say so."""
    if not set(COUNTS) <= set(rows.column_names):
        return None, []
    prompt, completion = (columns.read_numbers_or_nan(rows, name, path) for name in COUNTS)
    columns.refuse(rows, (prompt < 0) | (completion < 0), path, "a count of tokens is negative")
    lacking = uncounted_models(model, prompt, completion, len(models))
    if not len(lacking):
        return (prompt, completion), []
    if not np.isfinite(prompt + completion).any():
        return None, []
    said = (
        f"costs are learned in USD, not as tokens: more than {1 - LEAST_COUNTED:.0%} of the rows "
        f"lack token counts for {', '.join(models[place] for place in lacking)}"
    )
    return None, [said]


def _queries(path: Path, rows: pa.Table) -> pa.Table:
    """One row per query: of the file beside the table, else the first row of each query."""
    suffix = suffix_of(path)
    stem = path.name.removesuffix(suffix)
    beside = [path.with_name(f"{stem}.queries{other}") for other in (suffix, *SUFFIXES)]
    found = next((file for file in beside if file.is_file()), None)
    if found is not None:
        queries = read_table(found)
        columns.require(queries, ("query_id", "text"), found)
        missing = set(columns.read_strings(rows, "query_id", path)) - set(
            columns.read_strings(queries, "query_id", found)
        )
        if missing:
            raise InvalidEvaluations(
                f"{found} lacks query {min(missing)!r} and {len(missing) - 1} "
                f"more that {path.name} has evaluations of"
            )
    elif {"text", "query_embedding"} & set(rows.column_names):
        queries = rows
    else:
        raise InvalidEvaluations(
            f"{path} has neither 'text' nor 'query_embedding', and {beside[0].name} is not there"
        )
    columns.refuse_other_texts(queries, found or path)
    ids = pa.array([str(value) for value in queries["query_id"].to_pylist()])
    _, first = np.unique(np.asarray(ids.to_pylist()), return_index=True)
    queries = queries.set_column(queries.column_names.index("query_id"), "query_id", ids)
    return queries.take(np.sort(first))


def _texts(queries: pa.Table, path: Path) -> tuple[str, ...]:
    """Text of every query, or nothing when the table holds embeddings for those without."""
    texts = columns.read_optional(queries, "text")
    # CSV has no null: an empty cell is a missing text.
    if any(text is None or text == "" for text in texts):
        if "query_embedding" in queries.column_names:
            return ()
        raise InvalidEvaluations(f"{path}: column 'text' has empty values")
    return tuple(str(text) for text in texts)


def _tells_of_requests(queries: pa.Table) -> bool:
    """Say whether stored vectors hold what encoding the texts anew would lose."""
    return any(str(one).endswith(SUFFIX) for one in columns.read_optional(queries, "encoder_id"))


def _embeddings(queries: pa.Table, path: Path) -> tuple[Float32, str]:
    columns.require(queries, ("query_embedding", "encoder_id"), path)
    ids = columns.read_optional(queries, "encoder_id")
    encoders = set(ids)
    widest = max(map(str, encoders), key=len)
    if None in encoders or not encoders <= {widest, widest.removesuffix(SUFFIX)}:
        found = ", ".join(sorted(map(str, encoders)))
        raise InvalidEvaluations(f"{path} mixes embeddings of several encoders: {found}")
    vectors = [_vector(cell, path) for cell in queries["query_embedding"].to_pylist()]
    of_texts = [one != widest for one in ids]
    lengths = {len(v or ()) + WIDTH * short for v, short in zip(vectors, of_texts, strict=True)}
    if len(lengths) != 1:
        raise InvalidEvaluations(f"{path}: embeddings must all have the same length")
    rows = [fit_width(np.array(vector or (), np.float32), *lengths) for vector in vectors]
    embeddings = np.asarray(rows, np.float32)
    if embeddings.size == 0 or not np.isfinite(embeddings).all():
        raise InvalidEvaluations(f"{path}: column 'query_embedding' has empty or infinite values")
    return embeddings, widest


def _vector(cell: Any, path: Path) -> list[float] | None:
    """One embedding; CSV holds it as a JSON list."""
    if not isinstance(cell, str):
        return cast("list[float] | None", cell)
    try:
        return [float(value) for value in json.loads(cell)]
    except (ValueError, TypeError) as error:
        raise InvalidEvaluations(
            f"{path}: column 'query_embedding' must hold JSON lists of numbers"
        ) from error


def _splits(queries: pa.Table, keys: Sequence[str], path: Path) -> tuple[str, ...]:
    found = columns.read_optional(queries, "split")
    unknown = {str(split) for split in found if split} - set(SPLITS)
    if unknown:
        raise InvalidEvaluations(
            f"{path}: unknown split {', '.join(sorted(unknown))}; use {', '.join(SPLITS)}"
        )
    return tuple(split or split_of(key) for split, key in zip(found, keys, strict=True))


def _hidden(rows: pa.Table, names: Sequence[str]) -> frozenset[str]:
    flags = columns.read_optional(rows, "hidden_reasoning")
    return frozenset(name for name, flag in zip(names, flags, strict=True) if flag)


def _places(names: Sequence[str], among: Sequence[str]) -> NDArray[np.intp]:
    place_of = {name: place for place, name in enumerate(among)}
    return np.array([place_of[name] for name in names], np.intp)
