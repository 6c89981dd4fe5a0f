"""Tables of made-up evaluations as files, and the commands that read them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from click.testing import CliRunner

from tests.fakes.evaluations import counted, made_up

SUBJECTS = {
    "sums": "Work out {} plus {} and give the number.",
    "code": "def f(x): return x * {} + {}  # what does f(2) return?",
    "letters": "Dear editor, write {} lines of praise and {} of blame.",
    "riddles": "Who walks on {} legs at dawn and {} at dusk?",
}


def write_table(path: Path, columns: Mapping[str, Any]) -> Path:
    """Write a table in the form that the file's name says."""
    table = pa.table(columns)
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pyarrow.parquet.write_table(table, path)
    return path


def table_of(
    folder: Path,
    n_queries: int = 160,
    splits=("train", "val", "test"),
    *,
    with_tokens: bool = False,
) -> Path:
    rows = made_up(n_queries, seed=3)
    rows = counted(rows) if with_tokens else rows
    texts = [SUBJECTS[task].format(i, i + 1) for i, task in enumerate(rows.tasks)]
    ids = [f"q{i}" for i in range(n_queries)]
    n_models = len(rows.models)
    long = {
        "query_id": np.repeat(ids, n_models),
        "model": list(rows.models) * n_queries,
        "score": rows.quality.reshape(-1),
        "cost_usd": rows.cost_usd.reshape(-1),
        "hidden_reasoning": [False, False, False, True] * n_queries,
    }
    if rows.tokens is not None:
        long["prompt_tokens"] = rows.tokens.prompt.reshape(-1)
        long["completion_tokens"] = rows.tokens.completion.reshape(-1)
    queries = {
        "query_id": ids,
        "text": texts,
        "task": list(rows.tasks),
        "split": [splits[i % len(splits)] for i in range(n_queries)],
    }
    pyarrow.parquet.write_table(pa.table(long), folder / "t.parquet")
    pyarrow.parquet.write_table(pa.table(queries), folder / "t.queries.parquet")
    return folder / "t.parquet"


def with_a_gap(data: Path) -> Path:
    """Take the cost of one answer away, and give another one twice."""
    rows = pyarrow.parquet.read_table(data)
    place = rows.column_names.index("cost_usd")
    cost = pa.array([None, *rows["cost_usd"].to_pylist()[1:]], pa.float32())
    rows = rows.set_column(place, "cost_usd", cost)
    pyarrow.parquet.write_table(pa.concat_tables([rows, rows.slice(5, 1)]), data)
    return data


def invoke(command, *arguments, fails: bool = False) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exit_code == int(fails), result.output
    return result.output
