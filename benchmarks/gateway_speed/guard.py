"""Fails where a request takes more instructions than the numbers in guard.json allow.

    python benchmarks/gateway_speed/guard.py            # 5 minutes; needs valgrind
    python benchmarks/gateway_speed/guard.py --write    # take what is measured for the numbers

Instructions do not depend on what else a machine does, but on its kind and on how Python was built.
So they are counted beside a fixed piece of work of Python's own, on the same machine: the numbers
are how often that work would fit into a request. 3 % more than the number fails; who makes a
request dearer on purpose writes the number anew, and the change says so.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from gateway_under_test import prepare, train_router
from instructions import BATCHES, KINDS, KNOWN, STREAM, measure_gateway, serve_upstream, total
from processes import ROOT, CannotMeasure
from upstreams import Upstream

NUMBERS = Path(__file__).with_name("guard.json")
MOST_GROWTH = 1.03
REQUESTS = 150
GUARDED = ("auto, new query", KNOWN, STREAM)
PIECES = 2_000
WORK = """
import json, sys
class Model:
    __slots__ = ("name", "price")
    def __init__(self, name, price):
        self.name, self.price = name, price
def piece(number):
    models = [Model(f"model-{n}", n * 0.1) for n in range(12)]
    best = min(models, key=lambda model: (model.price - number % 7) ** 2)
    text = json.dumps({"model": best.name, "messages": [{"role": "user", "content": "x" * 60}]})
    return len(json.loads(text)["messages"])
for number in range(int(sys.argv[1])):
    piece(number)
"""
"""What the unit is: objects, calls, a sort by key, text and JSON, as a request has them."""


def main() -> None:
    """Count, compare, and say what has grown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="keep what is measured")
    given = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise CannotMeasure("valgrind is not installed; on Debian: apt-get install valgrind")
    found = measure()
    if given.write:
        NUMBERS.write_text(json.dumps(found, indent=1) + "\n")
    allowed = json.loads(NUMBERS.read_text())
    print("| request | pieces of work | allowed | ratio |\n|---|---:|---:|---:|")
    for kind, number in found.items():
        print(f"| {kind} | {number:.2f} | {allowed[kind]:.2f} | {number / allowed[kind]:.3f} |")
    if grown := too_dear(found, allowed):
        sys.exit(f"dearer by more than {MOST_GROWTH - 1:.0%}: {', '.join(grown)}")


def too_dear(found: Mapping[str, float], allowed: Mapping[str, float]) -> list[str]:
    """Name the kinds of request that have grown."""
    return [kind for kind, number in found.items() if number > allowed[kind] * MOST_GROWTH]


def measure() -> dict[str, float]:
    """Count how many pieces of work fit into a request of each kind."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        piece = (worked(PIECES, folder) - worked(0, folder)) / PIECES
        upstream = Upstream("json", serve_upstream())
        router = train_router(folder / "router", "static")
        config, key = prepare(folder / "gateway", upstream, "static", router, BATCHES)
        kinds = {name: KINDS[name] for name in GUARDED}
        found = measure_gateway(ROOT, config, key, kinds, REQUESTS)
    return {name: round(count / piece, 2) for name, count in found.items()}


def worked(pieces: int, folder: Path) -> int:
    """Count the instructions of a Python that works off so many pieces."""
    out = folder / f"work-{pieces}"
    callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
    python = [sys.executable, "-I", "-S", "-c", WORK, str(pieces)]
    subprocess.run([*callgrind, *python], check=True, capture_output=True)
    return total(out)


if __name__ == "__main__":
    main()
