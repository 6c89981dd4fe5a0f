"""What routing to new models loses, by how many prompts they answered.

Writes a line per pool, and leaves out pools that have one: a run that was stopped goes on.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.day_one import report
from benchmarks.day_one.contenders import Background, DayOne, predictions
from benchmarks.day_one.protocol import Draw, Judge, draws
from benchmarks.day_one.tables import read_table
from gateway.routing.encoders import load_encoder

SETS: Final = ("mmlu_pro", "zeroeval", "llmrouter_ulab", "reasoning_gym")
FIRST_SEED: Final = 100
"""Seeds below were looked at while the method was developed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--sets", nargs="*", default=list(SETS), help="NAME of NAME.parquet")
    parser.add_argument("--draws", type=int, default=10, help="pools of each kind and set")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    arguments = parser.parse_args()
    lines = arguments.out / "results.jsonl"
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.draws)
    encoder = load_encoder("static")
    for name in arguments.sets:
        done = {_key(row) for row in report.read(lines)}
        if all((name, kind, seed) in done for kind in report.SCENARIOS for seed in seeds):
            continue
        table, background = read_table(arguments.data / f"{name}.parquet", encoder), None
        for draw in draws(table, seeds):
            if (name, draw.scenario, draw.seed) in done:
                continue
            background = background or Background.of(draw, 0)
            started = time.process_time()
            row = {"set": name, "scenario": draw.scenario, "seed": draw.seed}
            row |= measure(draw, background)
            row["cpu_s"] = round(time.process_time() - started, 1)
            with lines.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(name, draw.scenario, draw.seed, f"{row['cpu_s']} s", flush=True)
    (arguments.out / "README.md").write_text(report.render(report.read(lines)))


def measure(draw: Draw, background: Background) -> dict[str, Any]:
    """Measure every contender after every number of prompts."""
    judge = Judge.of(draw)
    day_one = DayOne.of(draw, background.clusters.centroids)
    price = draw.table.cost_usd[np.ix_(draw.train, draw.pool)].mean(axis=0)
    loss: dict[str, dict[int, float]] = {}
    for contender, count, prediction in predictions(draw, background, day_one):
        loss.setdefault(contender, {})[count] = round(judge.loss(*prediction), 3)
    return {
        "pool": [draw.table.models[column] for column in draw.pool],
        "new": len(draw.new),
        "known": len(draw.known),
        "residual": round(day_one.prior.spread.residual, 4),
        "ignorance": round(judge.ignorance, 3),
        "cheapest": round(float(judge.constants[price.argmin()]), 3),
        "dearest": round(float(judge.constants[price.argmax()]), 3),
        "loss": loss,
    }


def _key(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["set"], row["scenario"], row["seed"]


if __name__ == "__main__":
    main()
