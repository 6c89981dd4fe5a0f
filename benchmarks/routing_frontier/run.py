"""Measure routers on real evaluations: `python -m benchmarks.routing_frontier.run --data DIR`.

Every cell of `cells.py` is trained and measured on its own. What a router expects of the queries is
kept under `--work`, so that a run that was stopped goes on where it was, and several can share the
work by `--sets`. `--report` writes results.json, README.md and the pictures from what is there.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Final

from benchmarks.routing_frontier import cells, contenders, protocol, report
from gateway.problems.datasets import Dataset
from gateway.routing.encoders import load_encoder

SETS: Final = ("zeroeval", "mmlu_pro", "reasoning_gym", "llmrouter_ulab")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the parquet tables")
    parser.add_argument("--work", type=Path, required=True, help="folder of what was predicted")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--parts", type=int, default=cells.PARTS, help="stop after so many parts")
    parser.add_argument("--routers", nargs="*", default=list(contenders.CONTENDERS))
    parser.add_argument("--report", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    datasets = {name: protocol.read(arguments.data, name) for name in arguments.sets}
    embedded = {name: found.embedded(load_encoder("static")) for name, found in datasets.items()}
    if not arguments.report:
        for cell in cells.all_cells():
            if cell.part < arguments.parts:
                for name, dataset in embedded.items():
                    _train(name, dataset, cell, arguments.work, arguments.routers)
    results = {
        name: report.measure(name, dataset, arguments.work, arguments.out)
        for name, dataset in embedded.items()
    }
    (arguments.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (arguments.out / "README.md").write_text(report.render(results))


def _train(name: str, dataset: Dataset, cell: cells.Cell, work: Path, routers: list[str]) -> None:
    """Train what is not there yet."""
    missing = [r for r in routers if not report.file_of(work, name, cell, r).is_file()]
    grid = report.file_of(work, name, cell, report.GRID).with_suffix(".json")
    is_grid = cell.protocol in report.GRID_PROTOCOLS and contenders.DEFAULT in routers
    if not missing and (grid.is_file() or not is_grid):
        return
    rows = cells.split(name, dataset, cell)
    for router in missing:
        started = time.process_time()
        contender = contenders.CONTENDERS[router](rows, cell.part)
        contenders.save(report.file_of(work, name, cell, router), contender)
        took = time.process_time() - started
        print(f"{name}, {cell.protocol.name}, part {cell.part}: {router} {took:.0f} s", flush=True)
    if is_grid and not grid.is_file():
        grid.write_text(json.dumps(contenders.grid_naiq(rows, cell.part)))


if __name__ == "__main__":
    main()
