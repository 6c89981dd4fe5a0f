"""Puts load on a target and reads what it cost: wrk at full speed, an open loop at a fixed rate."""

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from answers import CHUNKS
from gateways import TAIL, Target
from processes import TICKS_PER_S, CannotMeasure, cpu_s
from upstreams import FOLDER

SETTLE_STEP_S = 0.1
LONGEST_SETTLE_S = 4.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement of one target.

    Attributes:
        cpu_ms: Of all processes of the gateway, per request; None for the upstream itself.
        p50_ms: From sending a request to its last byte (open loop on a stream: its first byte).
    """

    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float | None
    late_p99_ms: float | None = None


@dataclass(slots=True)
class LoadMaker:
    """Sends the queries of one file; each target reads on where it stopped.

    Attributes:
        bodies: One ``messages`` array per line.
    """

    bodies: Path
    _positions: Counter[str] = field(default_factory=Counter)

    def check(self, target: Target) -> None:
        """Ask once and look at the answer, so that no broken gateway is measured.

        Raises:
            CannotMeasure: The answer is not the upstream's.
        """
        with self.bodies.open() as lines:
            body = target.head() + lines.readline().strip() + TAIL
        connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
        headers = {"content-type": "application/json", **target.headers}
        connection.request("POST", target.path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        if target.mode == "json":
            is_whole = answer.status == 200 and '"finish_reason"' in text
        else:
            chunks = text.count('"object":"chat.completion.chunk"')
            chunks += text.count('"object": "chat.completion.chunk"')
            is_whole = chunks >= CHUNKS and "[DONE]" in text
        if not is_whole:
            raise CannotMeasure(f"{target.name} ({target.mode}) answers {answer.status}: {text}")

    def full_speed(self, target: Target, connections: int, duration_s: float) -> Cell:
        """Let each of `connections` ask again as soon as it has its answer."""
        wrk = shutil.which("wrk")
        if wrk is None:
            raise CannotMeasure("wrk is not installed; on Debian: apt-get install wrk")
        command = [wrk, "-t1", f"-c{connections}", f"-d{duration_s:g}s", "--timeout", "20s"]
        command += ["-s", str(FOLDER / "wrk.lua"), target.url]
        before, cpu_before = target.upstream.requests(), _cpu(target)
        said = _output(command, self._environ(target))
        cpu_after = _settled_cpu(target)
        reached = target.upstream.requests() - before - (target.mode != "paced")
        # wrk's duration option counts whole seconds only; its own clock is exact.
        requests, duration_us, p50, p99, *failed = map(int, said.split("RESULT ")[1].split())
        if any(failed) or not requests:
            raise CannotMeasure(
                f"{target.name} ({target.mode}): {requests} answers; {failed[0]} of another status "
                f"than 200, {failed[1]} connections broken, {failed[2]} timed out"
            )
        self._positions[_series(target)] += reached + connections
        return Cell(
            requests=requests,
            requests_per_s=requests / (duration_us / 1e6),
            p50_ms=p50 / 1e3,
            p99_ms=p99 / 1e3,
            # wrk leaves at its end without the last answers, yet these were worked on as well.
            cpu_ms=None if cpu_after is None else (cpu_after - (cpu_before or 0.0)) * 1e3 / reached,
        )

    def fixed_rate(self, target: Target, rate: float, duration_s: float) -> Cell:
        """Send `rate` requests per second whether or not answers come."""
        command = [sys.executable, str(FOLDER / "open_loop.py"), target.url, str(rate)]
        cpu_before = _cpu(target)
        said = json.loads(_output([*command, str(duration_s)], self._environ(target)))
        cpu_after = _settled_cpu(target)
        if said["failed"] or not said["answered"]:
            raise CannotMeasure(f"{target.name} ({target.mode}): {said['failed']} requests failed")
        self._positions[_series(target)] += said["answered"]
        per_request_ms = 1e3 / said["answered"]
        return Cell(
            requests=said["answered"],
            requests_per_s=said["answered"] / duration_s,
            p50_ms=said["p50_ms"],
            p99_ms=said["p99_ms"],
            cpu_ms=None if cpu_after is None else (cpu_after - (cpu_before or 0)) * per_request_ms,
            late_p99_ms=said["late_p99_ms"],
        )

    def _environ(self, target: Target) -> dict[str, str]:
        return {
            **os.environ,
            "BODY_FILE": str(self.bodies),
            "BODY_HEAD": target.head(),
            "BODY_TAIL": TAIL,
            "BODY_START": str(0 if target.is_same_text else self._positions[_series(target)]),
            "BODY_STEP": str(int(not target.is_same_text)),
            "HEADERS": "\n".join(f"{name}: {value}" for name, value in target.headers.items()),
        }


def _series(target: Target) -> str:
    """Targets of one process share its memory of queries, and so one position in the file."""
    return str(target.port)


def _cpu(target: Target) -> float | None:
    return None if target.program is None else cpu_s(target.program.pid)


def _settled_cpu(target: Target) -> float | None:
    """Read the gateway's CPU seconds once it has nothing more to do."""
    if target.program is None:
        return None
    time.sleep(target.settle_s)
    end = time.monotonic() + LONGEST_SETTLE_S
    spent = cpu_s(target.program.pid)
    while time.monotonic() < end:
        time.sleep(SETTLE_STEP_S)
        now = cpu_s(target.program.pid)
        if now - spent <= 2 / TICKS_PER_S:
            return now
        spent = now
    return spent


def _output(command: list[str], environ: dict[str, str]) -> str:
    ran = subprocess.run(
        command, capture_output=True, text=True, env=environ, timeout=120, check=False
    )
    if ran.returncode or not ran.stdout:
        raise CannotMeasure(f"{Path(command[0]).name} failed: {ran.stdout}{ran.stderr}")
    return ran.stdout
