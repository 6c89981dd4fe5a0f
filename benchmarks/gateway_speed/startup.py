"""Measures a start: seconds and CPU seconds until the first answer, and memory."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import gateway_under_test
from processes import CannotMeasure, Program, cpu_s, family, free_port, resident_mb, start, wait_for
from upstreams import Upstream

START_TIMEOUT_S = 60.0
EMBEDDED = """data_dir = "{folder}"
[server]
port = {port}
admin_port = {admin_port}
log_level = "warning"
"""


@dataclass(frozen=True, slots=True)
class Start:
    """One kind of start, each figure the median of several.

    Attributes:
        health_s: From the start of the process until /health answers.
        ready_s: Until /ready answers 200.
        cpu_s: Spent by then.
        resident_mb: Of the gateway's own process, by then.
        child_mb: Of the processes it started.
    """

    health_s: float
    ready_s: float
    cpu_s: float
    resident_mb: float
    child_mb: float


@dataclass(slots=True)
class Starts:
    """Starts of Waypost, repeated."""

    folder: Path
    repeats: int
    _made: int = field(default=0)

    def all_kinds(self, upstream: Upstream, routers: Mapping[str, Path]) -> dict[str, Start]:
        """Start with each encoder, and with the embedded pool where that is installed."""
        found = {}
        for encoder, router in routers.items():
            config, _ = gateway_under_test.prepare(self._new_folder(), upstream, encoder, router)
            found[f"hosted models, {encoder} encoder"] = self._several(config)
        try:
            found["embedded models"] = self._several(self._embedded())
        except CannotMeasure as reason:
            print(f"skipped the start with embedded models: {reason}", file=sys.stderr)
        return found

    def _several(self, config: Path) -> Start:
        starts = [self._once(config) for _ in range(self.repeats)]
        names = ("health_s", "ready_s", "cpu_s", "resident_mb", "child_mb")
        return Start(*(median(getattr(one, name) for one in starts) for name in names))

    def _once(self, config: Path) -> Start:
        port = gateway_under_test.ports_of(config)[0]
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
        program = start("start", command, self.folder)
        try:
            health_s = wait_for(program, port, "/health", START_TIMEOUT_S)
            ready_s = wait_for(program, port, "/ready", START_TIMEOUT_S)
            spent_s = cpu_s(program.pid)
            own, children = memory_mb(program)
        finally:
            program.stop()
            time.sleep(0.2)
        return Start(health_s, ready_s, spent_s, own, children)

    def _embedded(self) -> Path:
        folder = self._new_folder()
        folder.mkdir()
        config = folder / "waypost.toml"
        ports = {"port": free_port(), "admin_port": free_port()}
        config.write_text(EMBEDDED.format(folder=folder, **ports))
        return config

    def _new_folder(self) -> Path:
        self._made += 1
        return self.folder / f"start-{self._made}"


def memory_mb(program: Program) -> tuple[float, float]:
    """Resident memory of the program's own process and of all those it started."""
    own, *children = family(program.pid)
    return resident_mb(own), sum(map(resident_mb, children))
