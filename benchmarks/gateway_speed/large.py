"""Measures what large bodies do to small requests, and what large events of streams cost.

    python benchmarks/gateway_speed/large.py [--seconds N]

Small requests arrive 50 times a second, alone and beside callers who send one large body after the
other; their latency is measured by the clock, so the machine should be quiet. Events are streamed
through the gateway and through the pass-through; CPU time is counted as in growth.py.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import gateways
import uvloop
from answers import json_answer, stream_events
from gateway_under_test import STREAMED, Instance, start_instance, train_router
from gateways import Target
from growth import Request, block, body, settled_cpu_s
from processes import CannotMeasure, Program, wait_for
from queries import queries
from raw_http import EVENTS, JSON, LONGEST, post, read_answer, serve, whole
from upstreams import Upstream

START_TIMEOUT_S = 120.0
RATE = 50.0
LARGE_CALLERS = 2
BODIES_MB = (0, 1, 10)
EVENTS_MB = (1, 4, 8, 15)
ROUNDS, STREAMED_MB = 5, 100


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="for each size of body")
    given = parser.parse_args()
    running: list[Program] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        upstream = Upstream("json", serve_upstream())
        router = train_router(folder / "router", "static")
        extra = "".join(STREAMED.format(name=f"events-{size}") for size in EVENTS_MB)
        try:
            instance = start_instance(
                "gateway", folder / "gateway", upstream, "static", router, extra
            )
            running.append(instance.program)
            wait_for(instance.program, instance.port, "/ready", START_TIMEOUT_S)
            (floor,) = gateways.start_floor(folder, {"json": upstream}, running)
            beside_bodies(instance, given.seconds)
            events(instance, floor)
        finally:
            for program in reversed(running):
                program.stop()


def beside_bodies(instance: Instance, seconds: float) -> None:
    """Print the latency of small requests beside bodies of each size."""
    print("| bodies beside | small requests: median, ms | 99th percentile, ms | bodies per s |")
    print("|---|---:|---:|---:|")
    for size in BODIES_MB:
        latencies_s, sent = uvloop.run(small_beside(instance, size, seconds))
        ordered = sorted(latencies_s)
        median, high = statistics.median(ordered), ordered[len(ordered) * 99 // 100]
        name = f"{size} MB" if size else "none"
        print(f"| {name} | {median * 1e3:.1f} | {high * 1e3:.1f} | {sent / seconds:.1f} |")
        sys.stdout.flush()


async def small_beside(instance: Instance, size: int, seconds: float) -> tuple[list[float], int]:
    """Send small requests at random moments, and large ones one after the other."""
    latencies_s: list[float] = []
    sent = 0
    text = "The quick brown fox jumps over the lazy dog, and that is not all of it. " * 14
    long = body([{"role": "user", "content": text * (size * 1000)}])

    async def send_large() -> None:
        nonlocal sent
        while True:
            await one(instance, long)
            sent += 1

    async def send_small(content: bytes) -> None:
        began_s = time.perf_counter()
        await one(instance, content)
        latencies_s.append(time.perf_counter() - began_s)

    large = [asyncio.create_task(send_large()) for _ in range(LARGE_CALLERS if size else 0)]
    rng, texts, small = random.Random(size), queries(10**6, seed=size), []
    at_s = time.monotonic()
    end_s = at_s + seconds
    while at_s < end_s:
        at_s += rng.expovariate(RATE)
        await asyncio.sleep(at_s - time.monotonic())
        content = body([{"role": "user", "content": next(texts)}])
        small.append(asyncio.create_task(send_small(content)))
    await asyncio.gather(*small)
    for task in large:
        task.cancel()
    return latencies_s, sent


async def one(instance: Instance, content: bytes) -> None:
    """Send one request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", instance.port)
    writer.write(post(content, instance.key))
    status, _ = await read_answer(reader)
    writer.close()
    if status != "200":
        raise CannotMeasure(f"the gateway answered {status}")


def events(instance: Instance, floor: Target) -> None:
    """Print the CPU time of streams that are one large event."""
    assert floor.program is not None
    print("\n| event | gateway, CPU ms | pass-through, CPU ms | times |\n|---|---:|---:|---:|")
    for size in EVENTS_MB:
        own, least, count = [], [], STREAMED_MB // size
        for _ in range(ROUNDS):
            own.append(block(instance, streams(size, instance.key), count) / 1e3)
            before_s = settled_cpu_s(floor.program)
            uvloop.run(through(floor, size, count))
            least.append((settled_cpu_s(floor.program) - before_s) / count * 1e3)
        ours, plain = statistics.median(own), statistics.median(least)
        print(f"| {size} MB | {ours:.1f} | {plain:.1f} | {ours / plain:.1f} |", flush=True)


def streams(size: int, key: str) -> Iterator[Request]:
    """Ask for streams of one event."""
    while True:
        messages = [{"role": "user", "content": "Say much."}]
        yield Request(key, body(messages, f"events-{size}", is_stream=True))


async def through(target: Target, size: int, count: int) -> None:
    """Ask the pass-through for the same streams."""
    content = next(streams(size, "")).body
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=LONGEST)
        writer.write(post(content, path=target.path))
        await read_answer(reader)
        writer.close()


def serve_upstream() -> int:
    """Answer at once, or with a stream of one event of so many megabytes."""
    answers = {"answers-1": whole(JSON, json_answer())}
    for size in EVENTS_MB:
        text = "All is well. " * (size * 10**6 // 13)
        delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        event = {"id": "c", "object": "chat.completion.chunk", "choices": [delta]}
        stream = b"data: " + json.dumps(event).encode() + b"\n\n" + b"".join(stream_events()[-3:])
        answers[f"events-{size}"] = whole(EVENTS, stream)
    return serve(lambda _, asked: answers[asked["model"]])


if __name__ == "__main__":
    main()
