"""Cut three organisations' queries out of llmrouter_ulab: ``python -m ... DATA_FOLDER OUT``."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ORGANISATIONS = 3
LOGGED = 1_000
UNSEEN = 300
ALPHA = 4.0
"""Of the Dirichlet distribution that gives each task to organisations; smaller is more unlike."""
SEED = 0
MOST_CHARACTERS = 1_200


def main(folder: Path, out: Path) -> None:
    """Draw, and write one row per query."""
    answers = pq.read_table(folder / "llmrouter_ulab.parquet").to_pylist()
    queries = pq.read_table(folder / "llmrouter_ulab.queries.parquet").to_pylist()
    prices = {row["model"]: row["price_per_mtok"] for row in answers}
    tokens = {row["query_id"]: row["prompt_tokens"] for row in answers}
    score = {(row["query_id"], row["model"]): row["score"] for row in answers}
    models = sorted(prices)
    queries = [
        query
        for query in queries
        if len(query["text"]) <= MOST_CHARACTERS
        and all((query["query_id"], model) in score for model in models)
    ]
    rng = np.random.default_rng(SEED)
    tasks = sorted({query["task"] for query in queries})
    share = {task: rng.dirichlet([ALPHA] * ORGANISATIONS) for task in tasks}
    owner = np.array([rng.choice(ORGANISATIONS, p=share[query["task"]]) for query in queries])
    drawn = [
        queries[row]
        for index in range(ORGANISATIONS)
        for row in rng.permutation(np.flatnonzero(owner == index))[: LOGGED + UNSEEN]
    ]
    ids = [query["query_id"] for query in drawn]
    table = pa.table(
        {
            "organisation": pa.array(
                np.repeat(np.arange(ORGANISATIONS), LOGGED + UNSEEN), pa.int8()
            ),
            "is_logged": pa.array(np.tile(np.arange(LOGGED + UNSEEN) < LOGGED, ORGANISATIONS)),
            "task": pa.array([query["task"] for query in drawn]).dictionary_encode(),
            "prompt_tokens": pa.array([tokens[name] for name in ids], pa.int16()),
            "scores": pa.array(
                [[score[name, model] for model in models] for name in ids], pa.list_(pa.float32())
            ),
            "text": pa.array([query["text"] for query in drawn]),
        }
    )
    metadata = {
        "models": ",".join(models),
        "usd_per_mtok": ",".join(f"{prices[model]:g}" for model in models),
    }
    table = table.replace_schema_metadata(metadata)
    pq.write_table(table, out, compression="zstd", compression_level=19)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
