"""Thirty days of changing traffic through the gateway's own routing, judge and learner.

``python -m benchmarks.closed_loop.run --data DIR`` writes a line per seed to ``results.jsonl``,
leaves out seeds that all contenders took part in, and writes the page and the picture. ``--tune``
prints how each setting of the bandit does on other seeds.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.closed_loop import bandit, report
from benchmarks.closed_loop.contenders import BANDIT, Arena, Choices, names
from benchmarks.closed_loop.measure import measure
from benchmarks.closed_loop.world import DATA, Answers, Float64, Plan, World, read_answers
from benchmarks.day_one.ship import make_prior
from gateway.routing.encoders import load_encoder
from gateway.routing.prior import open_prior
from router_models.day_one.shipped import ShippedPrior, load_prior
from router_models.types import Encoder

HERE: Final = Path(__file__).parent
RESULTS: Final = "results.jsonl"
PAID_USD: Final = 0.02
"""The willingness to pay of the profile ``balanced``, which requests fall under by default."""
FIRST_TUNING_SEED: Final = 1000
TUNING_SEEDS: Final = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--estimator", default="knn", help="auto is what ships; takes longer")
    parser.add_argument("--shipped", action="store_true", help="begin with the prior that ships")
    parser.add_argument("--tune", action="store_true", help="tune the bandit, and nothing else")
    arguments = parser.parse_args()
    encoder = load_encoder("static")
    answers = read_answers(arguments.data, encoder)
    prior = first_prior(arguments.data, encoder, is_shipped=arguments.shipped)
    features = bandit.features_of(answers.embeddings)
    if arguments.tune:
        tune(answers, encoder, features, prior)
        return
    file = arguments.out / RESULTS
    wanted = set(names(with_bandit=bandit.is_installed()))
    for seed in range(arguments.seeds):
        rows = {row["seed"]: row for row in report.read(file)}
        if seed in rows and wanted <= rows[seed]["contenders"].keys():
            continue
        arena = arena_of(answers, encoder, features, arguments.estimator, seed, prior)
        rows[seed] = {"seed": seed, "estimator": arguments.estimator, **run_seed(arena)}
        file.write_text("".join(json.dumps(rows[one]) + "\n" for one in sorted(rows)))
        report.write(report.read(file), arguments.out)


def first_prior(folder: Path, encoder: Encoder, *, is_shipped: bool) -> ShippedPrior:
    """Make a prior that has not seen the answers of the simulation, or open the one that ships."""
    if not is_shipped:
        return load_prior(make_prior(folder, encoder, DATA), encoder)
    shipped = open_prior(encoder)
    assert shipped is not None
    return shipped.prior


def arena_of(
    answers: Answers,
    encoder: Encoder,
    features: Float64,
    estimator: str,
    seed: int,
    prior: ShippedPrior,
) -> Arena:
    """Draw a world."""
    world = World.draw(answers, Plan(), seed)
    return Arena(world, encoder, PAID_USD, features, estimator, seed, prior)


def run_seed(arena: Arena) -> dict[str, Any]:
    """Let every contender route the same traffic."""
    choices: dict[str, Choices] = {}
    took: dict[str, float] = {}
    for name in names(with_bandit=bandit.is_installed()):
        began = time.process_time()
        choices[name] = arena.run(name)
        took[name] = round(time.process_time() - began, 1)
        print(f"seed {arena.seed}: {name}, {took[name]} s", flush=True)
    return {"cpu_s": took, "contenders": measure(arena.world, arena.utilities(), choices)}


def tune(answers: Answers, encoder: Encoder, features: Float64, prior: ShippedPrior) -> None:
    """Print the mean utility of the bandit by its settings, the best last."""
    found = []
    for settings in bandit.GRID:
        totals = []
        for seed in range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + TUNING_SEEDS):
            arena = arena_of(answers, encoder, features, "knn", seed, prior)
            chosen = arena.run(BANDIT, settings).chosen
            utilities = arena.utilities()
            totals.append(utilities[np.arange(len(chosen)), chosen].mean())
        found.append((float(np.mean(totals)), settings))
        print(found[-1], flush=True)
    print("best", max(found, key=lambda pair: pair[0]))


if __name__ == "__main__":
    main()
