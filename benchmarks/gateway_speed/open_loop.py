"""Sends requests at random moments of a fixed mean rate, whether or not answers come.

Usage: python open_loop.py URL RATE DURATION_S, with the bodies named in the environment as for
wrk.lua. Arrivals are a Poisson process with a fixed seed, so that every gateway meets the same
clusters. Latency runs from the moment a request is sent; how much later than planned it was sent
is reported apart.
"""

import asyncio
import gc
import json
import os
import random
import sys
import time
from itertools import cycle, islice
from typing import cast
from urllib.parse import urlsplit

import uvloop

WARM_UP_S = 0.5
PATIENCE_S = 20.0


# `loop.time` counts whole milliseconds, so latencies are taken from another clock.


class Connection(asyncio.Protocol):
    """One kept-alive connection; carries one request at a time."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._sent_s = 0.0
        self._first_s = 0.0
        self.is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's in all but their base class.
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, now_s: float) -> None:
        assert self._transport is not None
        self.is_busy, self._buffer, self._sent_s, self._first_s = True, b"", now_s, 0.0
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        now_s = time.perf_counter()
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        if body and not self._first_s:
            self._first_s = now_s
        lowered = head.lower()
        is_stream = b"text/event-stream" in lowered
        if b"transfer-encoding: chunked" in lowered:
            is_over = body.endswith(b"0\r\n\r\n")
        else:
            length = lowered.partition(b"content-length:")[2].partition(b"\r\n")[0]
            is_over = len(body) >= int(length)
        if is_over:
            self.is_busy = False
            end_s = self._first_s if is_stream else now_s
            self._load.answered(end_s - self._sent_s, is_good=b" 200" in head[:16])
            self._load.idle.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        del error
        if self.is_busy:
            self._load.answered(0.0, is_good=False)
        elif self in self._load.idle:
            self._load.idle.remove(self)


class Load:
    """The plan, and what came of it."""

    def __init__(self, url: str, rate: float, duration_s: float) -> None:
        parts = urlsplit(url)
        self.loop = asyncio.get_running_loop()
        self.idle: list[Connection] = []
        assert parts.hostname is not None
        assert parts.port is not None
        self._host, self._port = parts.hostname, parts.port
        self._start = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n" + "".join(
            f"{line}\r\n"
            for line in ["content-type: application/json", *os.environ["HEADERS"].split("\n")]
            if line
        )
        rng = random.Random(11)
        self.moments: list[float] = []
        at_s = rng.expovariate(rate)
        while at_s < WARM_UP_S + duration_s:
            self.moments.append(at_s)
            at_s += rng.expovariate(rate)
        self._latencies: list[float] = []
        self._late: list[float] = []
        self._failed = 0
        self._left = len(self.moments)
        self._all_answered = asyncio.Event()
        self._pending: set[asyncio.Task[None]] = set()

    def answered(self, latency_s: float, *, is_good: bool) -> None:
        self._failed += not is_good
        self._latencies.append(latency_s)
        self._left -= 1
        if self._left == 0:
            self._all_answered.set()

    async def run(self) -> dict[str, float]:
        requests = [self._request(body) for body in self._bodies()]
        gc.collect()
        gc.freeze()
        begin_s, begin_loop_s = time.perf_counter() + 0.1, self.loop.time() + 0.1
        for at_s, request in zip(self.moments, requests, strict=True):
            self.loop.call_at(begin_loop_s + at_s, self._send, request, begin_s + at_s)
        async with asyncio.timeout(self.moments[-1] + PATIENCE_S):
            await self._all_answered.wait()
        n_warm = sum(at_s < WARM_UP_S for at_s in self.moments)
        latencies = sorted(self._latencies[n_warm:])
        late = sorted(self._late[n_warm:])
        return {
            "answered": len(self._latencies),
            "failed": self._failed,
            "p50_ms": _share(latencies, 0.5) * 1e3,
            "p99_ms": _share(latencies, 0.99) * 1e3,
            "late_p99_ms": _share(late, 0.99) * 1e3,
        }

    def _send(self, request: bytes, planned_s: float) -> None:
        if self.idle:
            now_s = time.perf_counter()
            self._late.append(now_s - planned_s)
            self.idle.pop().send(request, now_s)
        else:
            task = self.loop.create_task(self._connect_and_send(request, planned_s))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    async def _connect_and_send(self, request: bytes, planned_s: float) -> None:
        now_s = time.perf_counter()
        self._late.append(now_s - planned_s)
        try:
            _, connection = await self.loop.create_connection(
                lambda: Connection(self), self._host, self._port
            )
        except OSError:
            self.answered(0.0, is_good=False)
            return
        connection.send(request, now_s)

    def _bodies(self) -> list[str]:
        start, step = int(os.environ["BODY_START"]), int(os.environ["BODY_STEP"])
        with open(os.environ["BODY_FILE"], encoding="utf-8") as file:  # noqa: PTH123
            lines = file.read().splitlines()
        if not step:
            return [lines[start]] * len(self.moments)
        start %= len(lines)
        return list(islice(cycle(lines), start, start + len(self.moments)))

    def _request(self, line: str) -> bytes:
        body = (os.environ["BODY_HEAD"] + line + os.environ["BODY_TAIL"]).encode()
        return f"{self._start}content-length: {len(body)}\r\n\r\n".encode() + body


def _share(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


async def main(url: str, rate: str, duration_s: str) -> None:
    print(json.dumps(await Load(url, float(rate), float(duration_s)).run()))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
