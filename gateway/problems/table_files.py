"""Reads tables from parquet or CSV files as they were written: names stay names, text whole."""

from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from router_models.errors import InvalidEvaluations

SUFFIXES: Final = (".parquet", ".csv", ".csv.gz")
LONGEST_ROW_BYTES: Final = 64 * 1024 * 1024
"""Of a CSV file, which is read in blocks of this size; a row must fit into one."""
WORDS: Final = ("query_id", "model", "text", "task", "domain", "split", "encoder_id")
"""Columns of text, whatever they look like: the query ``001`` is not the query ``1``."""


def suffix_of(path: Path) -> str:
    """Return how the name of a table's file ends.

    Raises:
        InvalidEvaluations: It is no such name.
    """
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return suffix
    raise InvalidEvaluations(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")


def read_table(path: Path) -> pa.Table:
    """Read a table; a CSV file is UTF-8 and may have line ends within quotes.

    Raises:
        InvalidEvaluations: The file is missing or unreadable.
    """
    suffix = suffix_of(path)
    if not path.is_file():
        raise InvalidEvaluations(f"{path} does not exist")
    try:
        if suffix == ".parquet":
            return pyarrow.parquet.read_table(path)
        return pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=LONGEST_ROW_BYTES),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(WORDS, pa.string())
            ),
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        hint = "; save the file as UTF-8" if "invalid UTF8" in str(error) else ""
        raise InvalidEvaluations(f"{path} cannot be read as {suffix}: {error}{hint}") from error
