"""Keeps a gateway under load for half an hour, and looks whether anything grows or gets lost.

    python benchmarks/gateway_speed/sustained.py [--minutes N] [--cores SHARE] [--out FILE]

Requests arrive at random moments, at the rate that takes `SHARE` of a core, found in the first
minute: half with new queries, a quarter with one seen before, a quarter streams. A tenth of the
callers leave within 5 ms; of the upstream's answers one in twenty is an error. Each minute notes
memory, CPU time per request and latency. At the end each answer's row is looked for in the log.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import multiprocessing
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import uvloop
from answers import json_answer, stream_events
from gateway_under_test import Instance, start_instance, train_router
from growth import body
from processes import PAGE_BYTES, cpu_s, free_port, wait_for
from queries import queries
from raw_http import ANSWER, EVENTS, JSON, post, read_answer, read_request, whole
from upstreams import Upstream

FOLDER = Path(__file__).parent
START_TIMEOUT_S = 120.0
FIRST_RATE = 200.0
MINUTE_S = 60.0
LEAVING, FAILING = 0.1, 0.05
LEAVES_WITHIN_S = 0.005
PATIENCE_S = 30.0
SETTLE_S = 5.0


@dataclass(slots=True)
class Minute:
    """What was seen in a minute.

    Attributes:
        statuses: How often each status was answered; ``left`` for callers who did not wait.
        latency_ms: Of answers that are no streams: the median and the 99th percentile.
    """

    rate: float
    requests: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    memory_mb: float = 0.0
    cpu_ms: float = 0.0
    cores: float = 0.0
    latency_ms: tuple[float, float] = (0.0, 0.0)


class Load:
    """Callers of one gateway, and what they were answered."""

    def __init__(self, instance: Instance, seed: int = 1) -> None:
        self._instance = instance
        self._rng = random.Random(seed)
        self._texts = queries(10**8, seed)
        self._known = next(self._texts)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._running: set[asyncio.Task[None]] = set()
        self._latencies_s: list[float] = []
        self._minute = Minute(0.0)
        self.answered: list[str] = []

    async def minute(self, rate: float, length_s: float = MINUTE_S) -> Minute:
        """Send requests at a mean rate for a minute; returns what was seen."""
        self._minute, self._latencies_s = Minute(rate), []
        before_s, began_s = cpu_s(self._instance.program.pid), time.monotonic()
        at_s = began_s
        while at_s < began_s + length_s:
            at_s += self._rng.expovariate(rate)
            await asyncio.sleep(at_s - time.monotonic())
            task = asyncio.create_task(self._call())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            self._minute.requests += 1
        spent_s = cpu_s(self._instance.program.pid) - before_s
        ordered = sorted(self._latencies_s)
        minute = self._minute
        minute.cores = spent_s / (time.monotonic() - began_s)
        minute.cpu_ms = spent_s / minute.requests * 1e3
        minute.memory_mb = resident_mb(self._instance.program.pid)
        minute.latency_ms = (
            ordered[len(ordered) // 2] * 1e3,
            ordered[len(ordered) * 99 // 100] * 1e3,
        )
        return minute

    async def finish(self) -> None:
        """Wait for the last answers."""
        if self._running:
            await asyncio.wait(self._running, timeout=PATIENCE_S)

    async def _call(self) -> None:
        kind = self._rng.random()
        text = self._known if 0.5 <= kind < 0.75 else next(self._texts)
        is_stream = kind >= 0.75
        leaves_s = self._rng.uniform(0, LEAVES_WITHIN_S) if self._rng.random() < LEAVING else None
        began_s = time.perf_counter()
        reader, writer = await self._connection()
        sent = body([{"role": "user", "content": text}], is_stream=is_stream)
        writer.write(post(sent, self._instance.key))
        try:
            async with asyncio.timeout(PATIENCE_S if leaves_s is None else leaves_s):
                status, request_id = await read_answer(reader)
        except TimeoutError:
            writer.close()
            self._count("left" if leaves_s is not None else "late")
            return
        except (OSError, asyncio.IncompleteReadError):
            self._count("broken")
            return
        self._idle.append((reader, writer))
        self._count(status)
        if status == "200":
            self.answered.append(request_id)
            if not is_stream:
                self._latencies_s.append(time.perf_counter() - began_s)

    def _count(self, status: str) -> None:
        self._minute.statuses[status] = self._minute.statuses.get(status, 0) + 1

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
        return await asyncio.open_connection("127.0.0.1", self._instance.port)


def resident_mb(pid: int) -> float:
    """Read how much memory a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / 1e6


def lost_rows(folder: Path, answered: list[str]) -> int:
    """Count the answers that have no row in the evaluation log."""
    with closing(sqlite3.connect(folder / "waypost.db")) as database:
        database.execute("CREATE TEMP TABLE answered (id TEXT PRIMARY KEY)")
        database.executemany("INSERT INTO answered VALUES (?)", ((each,) for each in answered))
        query = "SELECT count(*) FROM answered WHERE id NOT IN (SELECT request_id FROM turns)"
        return int(database.execute(query).fetchone()[0])


def serve_upstream(port: int) -> None:
    """Answer, one in twenty times with an error; streams come chunk by chunk."""
    events, rng = stream_events(), random.Random(2)
    good = whole(JSON, json_answer())
    bad = ANSWER % (b"500 Internal Server Error", JSON, 2) + b"{}"
    opening = ANSWER % (b"200 OK", EVENTS, sum(map(len, events)))

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                _, asked = await read_request(reader)
                if rng.random() < FAILING:
                    writer.write(bad)
                elif not asked.get("stream"):
                    writer.write(good)
                else:
                    writer.write(opening)
                    for event in events:
                        if writer.is_closing():
                            return
                        writer.write(event)
                        await asyncio.sleep(0.005)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(converse, "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(run())


async def measure(instance: Instance, minutes: int, cores: float) -> tuple[list[Minute], list[str]]:
    """Find the rate that takes so much of a core, then keep it up."""
    gc.set_threshold(100_000)  # the callers' own pauses are not to be measured
    load = Load(instance)
    rate = FIRST_RATE
    for _ in range(3):
        found = await load.minute(rate, MINUTE_S / 3)
        rate *= cores / found.cores
    seen = []
    for number in range(minutes):
        seen.append(await load.minute(rate))
        print(number + 1, json.dumps(asdict(seen[-1])), file=sys.stderr, flush=True)
    await load.finish()
    return seen, load.answered


def summary(seen: list[Minute], answered: int, lost: int) -> Iterator[str]:
    """Write a table in Markdown: the first and the last five minutes."""
    yield "| | minutes 1 to 5 | last 5 minutes |"
    yield "|---|---:|---:|"
    first, last = seen[:5], seen[-5:]
    for name, read in (
        ("requests per second", lambda one: one.requests / MINUTE_S),
        ("cores", lambda one: one.cores),
        ("CPU ms per request", lambda one: one.cpu_ms),
        ("memory, MB", lambda one: one.memory_mb),
        ("median latency, ms", lambda one: one.latency_ms[0]),
        ("99th percentile, ms", lambda one: one.latency_ms[1]),
    ):
        early, late = (statistics.median(map(read, part)) for part in (first, last))
        yield f"| {name} | {early:.2f} | {late:.2f} |"
    total = sum((Counter(one.statuses) for one in seen), Counter[str]())
    said = ", ".join(f"{count:,} {status}" for status, count in total.most_common())
    yield f"\n{answered:,} answers, {lost:,} without a row in the log; of all requests: {said}."


def main() -> None:
    """Measure, and write the table and what it was made of."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--cores", type=float, default=0.7)
    parser.add_argument("--out", type=Path, default=FOLDER / "sustained.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        upstream = Upstream("json", free_port())
        multiprocessing.Process(target=serve_upstream, args=(upstream.port,), daemon=True).start()
        router = train_router(Path(scratch, "router"), "static")
        instance = start_instance("gateway", Path(scratch, "gateway"), upstream, "static", router)
        try:
            wait_for(instance.program, instance.port, "/ready", START_TIMEOUT_S)
            seen, answered = uvloop.run(measure(instance, given.minutes, given.cores))
            time.sleep(SETTLE_S)
        finally:
            instance.program.stop()
        lost = lost_rows(instance.folder, answered)
    found = {"minutes": list(map(asdict, seen)), "answered": len(answered), "lost": lost}
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(summary(seen, len(answered), lost)))


if __name__ == "__main__":
    main()
