"""Writes exported rows as parquet. Needs pyarrow, so nothing that serves imports this."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from gateway.evaluation_log.log_export import COLUMNS, EvaluationRow

TYPES = {
    "query_embedding": pa.list_(pa.float32()),
    "score": pa.float64(),
    "score_weight": pa.float64(),
    "cost_usd": pa.float64(),
    "propensity": pa.float64(),
    "prompt_tokens": pa.int64(),
    "completion_tokens": pa.int64(),
    "created_at": pa.timestamp("us", tz="UTC"),
}
SCHEMA = pa.schema([(name, TYPES.get(name, pa.string())) for name in COLUMNS])


def write_parquet(batches: Iterable[Sequence[EvaluationRow]], file: Path) -> int:
    """Write rows as parquet, a row group per batch; returns how many."""
    written = 0
    with pyarrow.parquet.ParquetWriter(file, SCHEMA, compression="zstd") as output:
        for batch in batches:
            columns = [[getattr(row, name) for row in batch] for name in COLUMNS]
            arrays = [pa.array(column, SCHEMA.field(n).type) for n, column in enumerate(columns)]
            output.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
            written += len(batch)
    return written
