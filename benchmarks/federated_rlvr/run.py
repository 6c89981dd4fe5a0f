"""Measure federated tuning of a small language model by verifiable rewards.

`python -m benchmarks.federated_rlvr.run --model DIR_OR_HUB_ID [--gguf FILE]` writes results.json,
README.md and a picture beside itself. Every arm and seed is saved as soon as it is done, and what
results.json holds is not measured again.
"""

import argparse
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.federated_rlvr import report
from benchmarks.federated_rlvr.experiment import TOGETHER, Lab, run_arm
from benchmarks.federated_rlvr.protocol import ARMS, BASE, CONFIGS, EXTRAS, Config
from benchmarks.federated_rlvr.tasks import World, from_tables, made_up


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    # Flower prints every round.
    logging.getLogger("flwr").setLevel(logging.WARNING)
    config = CONFIGS[arguments.config]
    config = replace(config, device=arguments.device or config.device)
    if arguments.learning_rate:
        settings = replace(config.settings, learning_rate=arguments.learning_rate)
        config = replace(config, settings=settings)
    lab = Lab.open(config, arguments.model, arguments.gguf)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "results.json"
    results = _go_on(file, lab)
    known = {**ARMS, **EXTRAS}
    for seed in arguments.seed:
        world = _world(config, arguments.problems, seed)
        runs = results["runs"].setdefault(str(seed), {})
        if BASE not in runs:
            runs[BASE] = {"marks": {"0": {TOGETHER: lab.ask(lab.initial, world)}}}
        for name in arguments.arm or list(ARMS):
            if name not in runs:
                runs[name] = run_arm(lab, known[name], world, seed)
                file.write_text(json.dumps(_rounded(results), indent=1) + "\n")
                print(f"seed {seed}, {name}: {runs[name]['cpu_s']:.0f} CPU seconds", flush=True)
    report.write(results, arguments.out)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="cpu", choices=list(CONFIGS))
    parser.add_argument("--model", required=True, help="folder or hub id of a causal model")
    parser.add_argument("--gguf", help="name of a GGUF file there")
    parser.add_argument("--problems", type=Path, help="JSON Lines with text, verifier, maybe task")
    parser.add_argument("--arm", action="append", choices=[*ARMS, *EXTRAS], help="may be repeated")
    parser.add_argument("--seed", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--learning-rate", type=float, help="another one, to tune it")
    parser.add_argument("--device", help="another one than the configuration's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    return parser.parse_args()


def _go_on(file: Path, lab: Lab) -> dict[str, Any]:
    """Return the results so far.

    Raises:
        SystemExit: They are of another model or of other settings.
    """
    table = {
        "base_sha256": lab.base.sha256,
        "tokenizer_sha256": lab.base.tokenizer_sha256,
        "parameters": lab.parameters,
        "adapter_parameters": sum(one.size for one in lab.initial.values()),
        "settings": asdict(lab.config.settings),
        "rounds": lab.config.rounds,
        "sizes": asdict(lab.config.sizes),
    }
    setup = _rounded(table)
    if not file.is_file():
        return {**setup, "runs": {}}
    results: dict[str, Any] = json.loads(file.read_text())
    if {name: results.get(name) for name in setup} != setup:
        raise SystemExit(f"{file} is of another model or of other settings; choose another --out")
    return results


def _world(config: Config, problems: Path | None, seed: int) -> World:
    if problems is None:
        return made_up(config.sizes, seed)
    tables: list[Mapping[str, Any]] = [
        json.loads(line) for line in problems.read_text().splitlines() if line.strip()
    ]
    return from_tables(tables, config.sizes, seed)


def _rounded(value: Any) -> Any:
    """Keep five digits, which is more than any interval leaves."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
