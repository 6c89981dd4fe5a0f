"""Attack the federation: `python -m benchmarks.federation_attacks.run --data DIR`.

Who was in a site's log (membership inference on every message that leaves it), and what hostile
sites can do to the router, with and without the protections, and what each protection costs in
routing. Writes results.json, README.md and pictures beside itself. One core, some 20 minutes.
"""

import argparse
import json
import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.federated_routing.protocol import read
from benchmarks.federation_attacks import naive, report
from benchmarks.federation_attacks.arms import DEFENCES, KMEANS, MLP, PROTECTIONS, Arm
from benchmarks.federation_attacks.leaks import attack, pool, record
from benchmarks.federation_attacks.membership import Guesses
from benchmarks.federation_attacks.poisoning import TAMPERS, faults_of, flip_towards
from benchmarks.federation_attacks.sites import World
from benchmarks.federation_simulation.simulation import simulate
from federation.errors import FederationError
from federation.learning.settings import FederatedSettings
from gateway.routing.encoders import load_encoder
from router_models.errors import RouterModelsError
from router_models.evaluation.frontier import Judge
from router_models.types import Estimator, Evaluations

SET: Final = "llmrouter_ulab"
SEEDS: Final = {"kmeans": 5, "mlp": 2}
ATTACKERS: Final = (1, 3)
FLIP: Final = "label flip"
FALSE_POSITIVE_RATE: Final = 0.01
POISONED_MLP: Final = replace(MLP, rounds=15)
POISONED: Final[Mapping[str, FederatedSettings]] = {"kmeans": KMEANS, "mlp": POISONED_MLP}
NAIVE: Final = "no checks, mean"
PARTS: Final = ("membership", "poisoning")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the parquet tables")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--report", action="store_true", help="only write the report again")
    parser.add_argument("--only", nargs="*", choices=PARTS, help="measure these parts anew")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    file = arguments.out / "results.json"
    if not arguments.report:
        encoder = load_encoder("static")
        answers = read(arguments.data, SET, encoder)
        worlds = [World.deal(answers, encoder, seed) for seed in range(max(SEEDS.values()))]
        results = json.loads(file.read_text(encoding="utf-8")) if arguments.only else {}
        results |= {"set": SET, "seeds": SEEDS, "references": references(worlds)}
        for kind_of_attack in arguments.only or PARTS:
            measure = membership if kind_of_attack == "membership" else poisoning
            results[kind_of_attack] = [row for kind in SEEDS for row in measure(worlds, kind)]
        file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    report.write(json.loads(file.read_text(encoding="utf-8")), arguments.out)


def references(worlds: list[World]) -> dict[str, dict[str, float]]:
    """Routing figures without any router: single models, and the best random mixes of them."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for world in worlds:
        judge = Judge.of(world.test)
        singles = judge.figures(judge.single_models)
        mix = judge.figures(judge.mix())
        # Where cost does not count, both are the best model.
        found["single models"].append((singles.common_auc, mix.quality_first))
        found["best random mix of models"].append((mix.common_auc, mix.quality_first))
    return {
        name: dict(
            zip(("common_auc", "quality_first"), np.mean(rows, axis=0).tolist(), strict=True)
        )
        for name, rows in found.items()
    }


def membership(worlds: list[World], kind: str) -> list[dict[str, Any]]:
    """Attack the messages of sessions under each protection."""
    rows = []
    for arm in PROTECTIONS:
        guesses: dict[str, list[Guesses]] = defaultdict(list)
        routing = defaultdict(list)
        for seed, world in enumerate(worlds[: SEEDS[kind]]):
            recording = record(world, arm, kind, seed)
            for message, found in attack(world, recording).items():
                guesses[message] += found
            for name, value in world.routing(recording.result.estimator).items():
                routing[name].append(value)
        attacks = {
            message: {"auc": pool(g).auc, "found": pool(g).found_at(FALSE_POSITIVE_RATE)}
            for message, g in guesses.items()
        }
        noise = recording.plan.noise
        row = {
            "kind": kind,
            "arm": arm.name,
            "epsilon": arm.epsilon,
            "noise_multiplier": None if noise is None else noise.noise_multiplier,
        }
        rows.append({**row, "attacks": attacks, "routing": routing})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def poisoning(worlds: list[World], kind: str) -> list[dict[str, Any]]:
    """Let sites attack, against each defence; in one deal."""
    world = worlds[0]
    victim = world.worst_model()
    defences: list[Arm | None] = [None, *(d for d in DEFENCES if d.suits(kind))]
    rows = []
    for attack_name in ("nobody", FLIP, *TAMPERS):
        for n_attackers in (0,) if attack_name == "nobody" else ATTACKERS:
            for defence in defences:
                estimator, dropped = _attacked(world, kind, attack_name, n_attackers, defence)
                row: dict[str, Any] = {
                    "kind": kind,
                    "attack": attack_name,
                    "attackers": n_attackers,
                    "defence": NAIVE if defence is None else defence.name,
                    "dropped": dropped,
                }
                if estimator is not None:
                    row |= world.routing(estimator)
                    row["to_victim"] = world.share_of(victim, estimator)
                rows.append(row)
                print(json.dumps(row), flush=True)
    return rows


def _attacked(
    world: World, kind: str, attack_name: str, n_attackers: int, defence: Arm | None
) -> tuple[Estimator | None, int]:
    """Train with attackers among the sites; None where no router came of it."""
    train = [client.rows.train for client in world.clients]
    if attack_name == FLIP:
        flipped = [flip_towards(world.worst_model(), rows) for rows in train[:n_attackers]]
        train = [*flipped, *train[n_attackers:]]
    tamper = TAMPERS.get(attack_name)
    try:
        if defence is None:
            tampers = {} if tamper is None else dict.fromkeys(range(n_attackers), tamper)
            return _naive(kind, train, tampers), 0
        plan = replace(defence.plan(kind, world.encoder, 0), settings=POISONED[kind])
        faults = {} if tamper is None else faults_of(tamper, n_attackers)
        result = simulate(world.sites(train), plan, faults=faults)
        return result.estimator, sum(len(r.rejected) for r in result.report.rounds)
    except (RouterModelsError, FederationError) as error:
        print("   no router:", error)
        return None, 0


def _naive(kind: str, train: list[Evaluations], tampers: dict[int, Any]) -> Estimator:
    if kind == "mlp":
        return naive.train_mlp(train, POISONED_MLP, tampers, seed=0)
    return naive.train_kmeans(train, KMEANS, tampers, seed=0, least_rows=10)


if __name__ == "__main__":
    main()
