"""Measure federated routing: `python -m benchmarks.federated_routing.run --data DIR`.

The paper's protocol on real evaluations: local, federated and centralised training, tuned alike,
over several deals of the queries to ten clients; models and clients that join; what a session costs
as it grows. Writes results.json, README.md and pictures beside itself. What results.json already
holds is not measured again unless asked for with `--again`.
"""

import argparse
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.federated_routing import protocol, report
from benchmarks.federated_routing.alpha import measure_alpha, read_choice, tune_all
from benchmarks.federated_routing.arms import FEDERATED
from benchmarks.federated_routing.growth import measure_growth
from benchmarks.federated_routing.least_rows import measure_least_rows
from benchmarks.federated_routing.scaling import measure_scaling
from gateway.routing.encoders import load_encoder
from router_models.types import Evaluations

PARTS: Final = ("alpha 0.03", "alpha 0.6", "growth", "least rows")
TUNED_AT: Final = 0.03
"""Tuning anew for each alpha would double the time; every arm goes by the same rule."""

SEEDS: Final = 5
QUICK_SEEDS: Final = 2


def main() -> None:
    arguments = _arguments()
    # Flower prints every round of some hundred sessions.
    logging.getLogger("flwr").setLevel(logging.WARNING)
    encoder = load_encoder("static")
    names = arguments.set or list(protocol.NAMED)
    seeds = QUICK_SEEDS if arguments.quick else arguments.seeds
    file = arguments.out / "results.json"
    results = json.loads(file.read_text()) if file.is_file() else {"sets": {}, "scaling": []}
    tables = {name: protocol.read(arguments.data, name, encoder) for name in names}
    for part in PARTS:
        for name, answers in tables.items():
            found = results["sets"].setdefault(name, {})
            if part in found and not arguments.again:
                continue
            began_s = time.process_time()
            found[part] = _measure(part, answers, found, seeds)
            found[part]["cpu_s"] = round(time.process_time() - began_s, 1)
            _save(results, file)
            print(f"{name}, {part}: {found[part]['cpu_s']} CPU seconds", flush=True)
    if arguments.again or not results["scaling"]:
        results["scaling"] = measure_scaling(tables[names[0]], is_quick=arguments.quick)
        _save(results, file)
    report.write(results, arguments.out)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the parquet tables")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--set", action="append", help="only this table; may be repeated")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SEEDS} seeds, few clients")
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    return parser.parse_args()


def _save(results: Mapping[str, Any], file: Path) -> None:
    file.write_text(json.dumps(_rounded(results), indent=1) + "\n")


def _rounded(value: Any) -> Any:
    """Keep five digits, which is more than any interval leaves."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _measure(
    part: str, answers: Evaluations, found: Mapping[str, Any], seeds: int
) -> dict[str, Any]:
    tuned = next((found[p]["settings"] for p in PARTS if "settings" in found.get(p, {})), None)
    choice = tune_all(answers, TUNED_AT) if tuned is None else read_choice(tuned)
    if part.startswith("alpha"):
        return measure_alpha(answers, float(part.removeprefix("alpha ")), choice, seeds)
    measures: dict[str, Callable[..., dict[str, Any]]] = {
        "growth": measure_growth,
        "least rows": measure_least_rows,
    }
    return measures[part](answers, {kind: choice[kind][FEDERATED] for kind in choice}, seeds)


if __name__ == "__main__":
    main()
