"""Measure Waypost beside other gateways on this machine.

Usage: python benchmarks/gateway_speed/run.py [--quick] [--out FOLDER]

Needs nginx and wrk (Debian: apt-get install nginx-light wrk) and `pip install -e '.[dev]'`. LiteLLM
and Portkey are installed into a folder outside the repository at the first run, or left out with a
note. A full run takes about 8 minutes, --quick about 2; --quick writes to a temporary folder.
"""

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import compiled_peers
import gateway_under_test
import gateways
import peers
import report
from gateways import Target
from load import Cell, LoadMaker
from processes import ROOT, CannotMeasure, Program
from queries import POOL, write_message_lists
from startup import Starts, memory_mb
from upstreams import FOLDER, PAUSE_S, start_upstreams

CONNECTIONS = {"json": (32, 1), "stream": (32, 1), "paced": (32,)}
RATE = 200.0
LEAST_SPEED_FOR_RATE = 1.2 * RATE
LEAST_DURATION_OF_SLOW_S = 3.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure."""

    rounds: int
    duration_s: float
    rate_duration_s: float
    starts: int


FULL = Plan(rounds=3, duration_s=2, rate_duration_s=4, starts=3)
QUICK = Plan(rounds=1, duration_s=1, rate_duration_s=3, starts=1)


@dataclass(slots=True)
class Results:
    """Everything measured, as it goes into results.json."""

    about: dict[str, Any]
    cells: dict[str, dict[str, list[Cell]]] = field(default_factory=dict)
    starts: dict[str, Any] = field(default_factory=dict)
    memory_mb: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, series: str, name: str, cell: Cell) -> None:
        """Keep one measurement of `series`, such as ``json, 32 connections``."""
        self.cells.setdefault(series, {}).setdefault(name, []).append(cell)

    def note(self, text: str) -> None:
        """Keep and show what the reader of the figures must know."""
        print(f"note: {text}", file=sys.stderr, flush=True)
        self.notes.append(text)


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="One short round.")
    parser.add_argument("--out", type=Path, help="Where results go; by default beside this file.")
    parser.add_argument("--kept", type=Path, help="Where other gateways are installed.")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    kept = given.kept or Path(tempfile.gettempdir()) / "waypost-benchmark-peers"
    out = given.out or (Path(tempfile.mkdtemp()) if given.quick else FOLDER)
    try:
        results = measure(QUICK if given.quick else FULL, kept)
    except CannotMeasure as reason:
        sys.exit(f"cannot measure: {reason}")
    out.mkdir(parents=True, exist_ok=True)
    report.write(asdict(results), out)


def measure(plan: Plan, kept: Path) -> Results:
    """Start everything, measure in interleaved rounds, end everything."""
    results = Results(about=_about(plan))
    running: list[Program] = []
    with tempfile.TemporaryDirectory(prefix="waypost-speed-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's worker may run as another user
        try:
            _measure_in(folder, kept, plan, results, running)
        finally:
            for program in reversed(running):
                program.stop()
    results.about["load_average_after"] = os.getloadavg()[0]
    return results


def _measure_in(
    folder: Path, kept: Path, plan: Plan, results: Results, running: list[Program]
) -> None:
    bodies = folder / "bodies.jsonl"
    write_message_lists(bodies, POOL, seed=1)
    load = LoadMaker(bodies)
    upstreams = start_upstreams(folder / "upstream", running)
    routers = gateway_under_test.train_routers(kept)
    results.starts = {
        kind: asdict(figures)
        for kind, figures in Starts(folder, plan.starts)
        .all_kinds(upstreams["json"], routers)
        .items()
    }
    targets = gateways.direct_targets(upstreams)
    targets += gateways.start_proxy(folder, upstreams, running)
    targets += gateways.start_floor(folder, upstreams, running)
    own, instances = gateway_under_test.start_waypost(folder, routers, upstreams, running)
    targets += own
    targets += _if_possible(
        peers.PORTKEY, lambda: peers.start_portkey(folder, kept, upstreams, running), results
    )
    targets += _if_possible(
        peers.LITELLM, lambda: peers.start_litellm(folder, kept, upstreams, running), results
    )
    for name in compiled_peers.PEERS:
        for upstream in upstreams.values():
            begin = partial(compiled_peers.start_peer, name, folder, kept, upstream, running)
            targets += _if_possible(f"{name} ({upstream.mode})", begin, results)
    targets = [target for target in targets if _is_sound(load, target, results)]
    for number in range(plan.rounds):
        print(f"round {number + 1} of {plan.rounds} ...", file=sys.stderr, flush=True)
        measure_round(load, targets, plan, results)
    for target in targets:
        if target.program is not None:
            # The largest of a gateway's instances.
            now = list(memory_mb(target.program))
            results.memory_mb[target.name] = max(now, results.memory_mb.get(target.name, []))
    _prove(instances, results)


def measure_round(load: LoadMaker, targets: list[Target], plan: Plan, results: Results) -> None:
    """Measure every target once in every way."""
    for mode, connection_counts in CONNECTIONS.items():
        these = [target for target in targets if target.mode == mode]
        for connections in connection_counts:
            series = f"{mode}, {connections} connection{'s' if connections > 1 else ''}"
            for target in these:
                # Under load LiteLLM takes a second for its first answers.
                is_slow = target.name == peers.LITELLM
                least_s = LEAST_DURATION_OF_SLOW_S if is_slow else 0.0
                duration_s = max(plan.duration_s if connections > 1 else 1.0, least_s)
                measure_it = partial(load.full_speed, target, connections, duration_s)
                _try(results, series, target.name, measure_it)
        if mode == "paced":
            continue
        for target in these:
            fastest = results.cells[f"{mode}, 32 connections"].get(target.name)
            if fastest and fastest[-1].requests_per_s >= LEAST_SPEED_FOR_RATE:
                series = f"{mode}, {RATE:g} requests/s"
                measure_it = partial(load.fixed_rate, target, RATE, plan.rate_duration_s)
                _try(results, series, target.name, measure_it)


def _try(results: Results, series: str, name: str, measure_it: Callable[[], Cell]) -> None:
    try:
        results.add(series, name, measure_it())
    except CannotMeasure as reason:
        results.note(f"{series}: {reason}")


def _if_possible(name: str, begin: Callable[[], list[Target]], results: Results) -> list[Target]:
    try:
        return begin()
    except CannotMeasure as reason:
        results.note(f"{name} was left out: {reason}")
        return []


def _is_sound(load: LoadMaker, target: Target, results: Results) -> bool:
    """Look at one answer and warm up; a peer that answers wrongly is left out, with a note.

    Raises:
        CannotMeasure: What answers wrongly is not a peer.
    """
    try:
        load.check(target)
        load.full_speed(target, 8, 1)
    except CannotMeasure as reason:
        if target.name not in (peers.LITELLM, peers.PORTKEY, *compiled_peers.PEERS):
            raise
        results.note(str(reason).strip()[:300])
        return False
    return True


def _prove(instances: list[gateway_under_test.Instance], results: Results) -> None:
    """Say what Waypost itself counted, so that a reader sees that everything was on."""
    time.sleep(gateway_under_test.SETTLE_S)
    for instance in instances:
        counted = gateway_under_test.counters(instance)
        results.note(
            f"{instance.program.name}: {gateway_under_test.logged_turns(instance)} answered turns "
            "in the log, "
            f"{counted['waypost_log_rows_dropped_total']:g} dropped; embeddings computed "
            f"{counted['waypost_embedding_cache_misses_total']:g} times, remembered "
            f"{counted['waypost_embedding_cache_hits_total']:g} times"
        )


def _about(plan: Plan) -> dict[str, Any]:
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "waypost": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
        "litellm": peers.LITELLM_VERSION,
        "portkey": peers.PORTKEY_VERSION,
        "plan": asdict(plan),
        "pause_between_paced_chunks_s": PAUSE_S,
        "rate": RATE,
        "load_average_before": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
