"""Columns of a table of evaluations, with complaints that name the row."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from router_models.errors import InvalidEvaluations

ROW: Final = "row of the file"
"""Counts the rows as they lie in the file, from 1, so that a message can name one."""

COUNTED: Final = ("score", "price_per_mtok", "prompt_tokens", "completion_tokens")
SKIP: Final = "; fill them in, or leave such rows out with --skip-incomplete"


def number_rows(rows: pa.Table) -> pa.Table:
    """Let later complaints say where in the file a row lies."""
    return rows.append_column(ROW, pa.array(range(1, rows.num_rows + 1)))


def require(table: pa.Table, columns: Sequence[str], path: Path) -> None:
    """Complain where a column is missing."""
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise InvalidEvaluations(
            f"{path} lacks the column {', '.join(map(repr, missing))}; "
            f"it has {', '.join(table.column_names)}"
        )


def read_numbers(table: pa.Table, column: str, path: Path) -> NDArray[np.float64]:
    """Read a column that holds a number in every row."""
    numbers = read_numbers_or_nan(table, column, path)
    complaint = f"column {column!r} has empty or infinite values"
    refuse(table, ~np.isfinite(numbers), path, complaint, can_skip=True)
    return numbers


def read_numbers_or_nan(table: pa.Table, column: str, path: Path) -> NDArray[np.float64]:
    """Read a column of numbers, NaN where a row has none."""
    try:
        numbers: NDArray[np.float64] = np.asarray(table[column].to_pylist(), np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidEvaluations(f"{path}: column {column!r} must hold numbers") from error
    return numbers


def read_strings(table: pa.Table, column: str, path: Path) -> list[str]:
    """Read a column that holds a name in every row."""
    values = table[column].to_pylist()
    empty = np.array([value is None or value == "" for value in values], bool)
    refuse(table, empty, path, f"column {column!r} has empty values", can_skip=True)
    return [str(value) for value in values]


def read_optional(table: pa.Table, column: str) -> list[Any]:
    """Read a column, None in every row where there is no such column."""
    if column not in table.column_names:
        return [None] * table.num_rows
    return cast("list[Any]", table[column].to_pylist())


def refuse(
    rows: pa.Table, bad: NDArray[np.bool_], path: Path, complaint: str, *, can_skip: bool = False
) -> None:
    """Complain about the `bad` rows, if there are any, and name the first."""
    if bad.any():
        remedy = SKIP if can_skip and ROW in rows.column_names else ""
        raise InvalidEvaluations(f"{path}: {complaint} ({_first_of(rows, bad)}){remedy}")


def _first_of(rows: pa.Table, which: NDArray[np.bool_]) -> str:
    """Name the first of some rows, and say how many more there are."""
    row = rows.slice(int(np.argmax(which)), 1).to_pylist()[0]
    found = [f"row {row[ROW]}"] if ROW in row else []
    found += [f"{key} {row[key]!r}" for key in ("query_id", "model") if key in row]
    more = int(which.sum()) - 1
    return ", ".join(found) + (f"; {more:,} more like it" if more else "")


def drop_incomplete(rows: pa.Table, path: Path) -> tuple[pa.Table, list[str]]:
    """Leave out rows that lack something, and say which."""
    numbers = [name for name in COUNTED if name in rows.column_names]
    if "cost_usd" in rows.column_names:
        numbers = ["score", "cost_usd"]
    lacks = {name: ~np.isfinite(read_numbers_or_nan(rows, name, path)) for name in numbers}
    for name in ("query_id", "model"):
        lacks[name] = np.array([not value for value in rows[name].to_pylist()], bool)
    notes = [
        f"rows left out because they lack {name!r}: {int(bad.sum()):,} ({_first_of(rows, bad)})"
        for name, bad in lacks.items()
        if bad.any()
    ]
    return rows.filter(pa.array(~np.any(list(lacks.values()), axis=0))), notes


def repeated_answers(rows: pa.Table, pairs: NDArray[np.intp]) -> list[str]:
    """Say that some answers are of one model to one query, which are averaged."""
    _, first = np.unique(pairs, return_index=True)
    again = np.ones(len(pairs), bool)
    again[first] = False
    if not again.any():
        return []
    said = (
        f"rows that repeat a query and a model: {int(again.sum()):,} ({_first_of(rows, again)}); "
        "their scores and costs are averaged"
    )
    return [said]


def refuse_other_texts(queries: pa.Table, path: Path) -> None:
    """Complain where one query has two texts: nobody knows which of them was answered."""
    if "text" not in queries.column_names:
        return
    known: dict[str, str] = {}
    ids, texts = queries["query_id"].to_pylist(), queries["text"].to_pylist()
    other = [known.setdefault(i, text) != text for i, text in zip(ids, texts, strict=True)]
    refuse(queries, np.array(other, bool), path, "a query has another text than in a row before")


def doubts(
    score: NDArray[np.float64], cost: NDArray[np.float64], models: Sequence[str]
) -> list[str]:
    """Say what makes a table useless to a router, though each of its rows is well formed."""
    said = []
    if len(models) == 1:
        said.append(f"all rows are of one model, {models[0]}: there is nothing to choose between")
    if (score == score[0]).all():
        said.append(f"every score is {score[0]:g}: no answer is better than another")
    if (cost == 0).all():
        said.append("every cost is 0: no model is cheaper than another")
    return said
