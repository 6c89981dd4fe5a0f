"""Time and memory of training on large logs: `python -m benchmarks.router_training.run`.

Each size runs in a process of its own, on one thread. Writes results.json and README.md beside
itself.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from router_models.statistics import select
from router_models.training.train import train
from router_models.types import Evaluations

HERE: Final = Path(__file__).parent
ROWS: Final = (10_000, 100_000, 1_000_000)
MODELS: Final = 12
DIMENSION: Final = 336
TOPICS: Final = 300
ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="measure this size here and print the figures")
    arguments = parser.parse_args()
    if arguments.rows:
        print(json.dumps(measure(arguments.rows)))
        return
    found = []
    for rows in ROWS:
        command = [sys.executable, "-m", "benchmarks.router_training.run", "--rows", str(rows)]
        done = subprocess.run(
            command, check=True, capture_output=True, env={**os.environ, **ONE_THREAD}
        )
        found.append(json.loads(done.stdout))
        print(found[-1], flush=True)
    (HERE / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    lines = "\n".join(_line(one) for one in found)
    (HERE / "README.md").write_text((HERE / "template.md").read_text().replace("LINES", lines))


def measure(n_rows: int) -> dict[str, Any]:
    """Train the default router on a made-up log of one answer a query."""
    log = made_up_log(n_rows)
    table = log.embeddings.nbytes + log.quality.nbytes + log.cost_usd.nbytes
    cut = n_rows * 7 // 8
    rows, held_out = select(log, np.arange(cut)), select(log, np.arange(cut, n_rows))
    del log
    before, started = _peak_bytes(), time.process_time()
    train(rows, held_out, "auto", 0)
    return {
        "rows": n_rows,
        "cpu_s": round(time.process_time() - started, 1),
        "table_mb": round(table / 1e6),
        "peak_growth_mb": round((_peak_bytes() - before) / 1e6),
    }


def made_up_log(n_rows: int) -> Evaluations:
    """Draw queries of many topics; a model that is drawn at random answers each."""
    rng = np.random.default_rng(0)
    topics = rng.standard_normal((TOPICS, DIMENSION), dtype=np.float32)
    topic = rng.integers(0, TOPICS, n_rows)
    embeddings = rng.standard_normal((n_rows, DIMENSION), dtype=np.float32)
    embeddings += topics[topic]
    skill = rng.random((TOPICS, MODELS))
    at = np.arange(n_rows), rng.integers(0, MODELS, n_rows)
    quality = np.full((n_rows, MODELS), np.nan, np.float32)
    cost = np.full((n_rows, MODELS), np.nan, np.float32)
    quality[at] = rng.random(n_rows) < skill[topic, at[1]]
    cost[at] = 1e-4 * (1 + at[1]) * rng.uniform(0.5, 1.5, n_rows)
    return Evaluations(embeddings, quality, cost, tuple(f"model-{m}" for m in range(MODELS)))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _line(one: dict[str, Any]) -> str:
    return f"| {one['rows']:,} | {one['cpu_s']} | {one['table_mb']:,} | {one['peak_growth_mb']:,} |"


if __name__ == "__main__":
    main()
