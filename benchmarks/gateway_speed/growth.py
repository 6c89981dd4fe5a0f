"""Measures how the CPU time of a request grows: with models, keys, text, messages and chunks.

    python benchmarks/gateway_speed/growth.py [--rounds N] [--only CURVE] [--out FILE]

Each curve is one gateway (of models: one for each size), asked in blocks that alternate between its
sizes, so that what else the machine does falls on all alike. CPU time is that of all processes of
the gateway, from /proc, with what it does after the answers. Upstream and callers are in this
process. The picture is drawn beside the file of results.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import gateway_under_test
from answers import json_answer, stream_events
from gateway_under_test import (
    SETTLE_S,
    STREAMED,
    TEAM,
    Instance,
    start_instance,
    train_router,
)
from picture import draw_growth
from processes import CannotMeasure, Program, cpu_s, wait_for
from queries import queries
from raw_http import EVENTS, JSON, LONGEST, post, read_answer, serve, whole
from upstreams import Upstream

from gateway.access.keys import KeyStore
from gateway.storage.database import create_database_engine

FOLDER = Path(__file__).parent
CONNECTIONS = 16
REQUESTS = 1_000
"""Of a block; of dear requests there are fewer."""
START_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request: the key that sends it, and its body."""

    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Curve:
    """What grows.

    Attributes:
        sizes: The first is what the others are compared with.
        grows_models: The size is how many models a gateway has; else it has 12.
        keys: How many keys there are at most.
        per_request: A request of this size more costs about as much as a usual request.
        ask: Makes the requests of a size, from queries and the gateway's keys.
    """

    sizes: tuple[int, ...]
    ask: Callable[[int, Iterator[str], list[str]], Iterator[Request]]
    grows_models: bool = False
    keys: int = 1
    per_request: int | None = None

    def models(self, size: int) -> int:
        """How many models the gateway of a size has."""
        return size if self.grows_models else 12

    def requests(self, size: int) -> int:
        """How many requests a block of a size has."""
        return REQUESTS if self.per_request is None else REQUESTS // (1 + size // self.per_request)


def body(messages: object, model: str = "auto", *, is_stream: bool = False) -> bytes:
    """Write a request as the OpenAI SDK does."""
    asked = {"model": model, "messages": messages, "max_tokens": 256, "stream": is_stream}
    return json.dumps(asked).encode()


def one_message(_: int, texts: Iterator[str], keys: list[str]) -> Iterator[Request]:
    """Ask new queries with the one key."""
    return (Request(keys[0], body([{"role": "user", "content": text}])) for text in texts)


def by_many(size: int, texts: Iterator[str], keys: list[str]) -> Iterator[Request]:
    """Ask new queries, each with one of `size` keys."""
    rng = random.Random(size)
    for text in texts:
        yield Request(rng.choice(keys[:size]), body([{"role": "user", "content": text}]))


def long_text(size: int, texts: Iterator[str], keys: list[str]) -> Iterator[Request]:
    """Ask in one message of `size` characters."""
    for text in texts:
        whole = (text + " ") * (size // len(text) + 1)
        yield Request(keys[0], body([{"role": "user", "content": whole[:size]}]))


def long_history(size: int, texts: Iterator[str], keys: list[str]) -> Iterator[Request]:
    """Ask at the end of `size` short messages."""
    for text in texts:
        before = [{"role": "assistant", "content": f"Step {n} is done."} for n in range(size - 1)]
        yield Request(keys[0], body([*before, {"role": "user", "content": text}]))


def chunks(size: int, texts: Iterator[str], keys: list[str]) -> Iterator[Request]:
    """Ask for a stream of `size` chunks."""
    for text in texts:
        messages = [{"role": "user", "content": text}]
        yield Request(keys[0], body(messages, f"chunks-{size}", is_stream=True))


CURVES: Mapping[str, Curve] = {
    "models": Curve((12, 5, 50, 200), one_message, grows_models=True),
    "keys": Curve((10, 1_000, 10_000), by_many, keys=10_000),
    "characters of the query": Curve((100, 1_000, 10_000, 100_000), long_text, per_request=9_000),
    "messages": Curve((1, 10, 100, 1_000), long_history, per_request=90),
    "chunks": Curve((20, 200, 2_000), chunks, per_request=20),
}


def main() -> None:
    """Measure, print a table, write the results and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", choices=CURVES, action="append")
    parser.add_argument("--out", type=Path, default=FOLDER / "growth.json")
    given = parser.parse_args()
    found = json.loads(given.out.read_text()) if given.out.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        upstream = Upstream("json", serve_upstream())
        for name in given.only or CURVES:
            found[name] = measure(
                CURVES[name], Path(scratch, name.split()[0]), upstream, given.rounds
            )
            given.out.write_text(json.dumps(found, indent=1) + "\n")
            print_curve(name, found[name])
    draw_growth(found, given.out.with_suffix(".png"))


def print_curve(name: str, sizes: Mapping[str, Mapping[str, float]]) -> None:
    """Print rows of a table in Markdown."""
    print(f"| {name} | CPU µs per request | times the first |\n|---:|---:|---:|")
    for size, cell in sizes.items():
        spread = f"{cell['times']:.2f} ({cell['low']:.2f} to {cell['high']:.2f})"
        print(f"| {int(size):,} | {cell['cpu_us']:,.0f} | {spread} |")
    sys.stdout.flush()


def measure(
    curve: Curve, folder: Path, upstream: Upstream, rounds: int
) -> dict[str, dict[str, float]]:
    """Run the curve's gateways; of each size the median CPU time, and its ratio to the first."""
    folder.mkdir()
    running: dict[int, Instance] = {}
    try:
        for size in {curve.models(size) for size in curve.sizes}:
            running[size] = start_gateway(folder / str(size), upstream, size, curve)
        keys = {size: [each.key, *more_keys(each, curve.keys)] for size, each in running.items()}
        texts = queries(10**7, seed=1)
        spent: dict[int, list[float]] = {size: [] for size in curve.sizes}
        for number in range(rounds + 1):
            for size in curve.sizes:
                asked = curve.models(size)
                requests = curve.ask(size, texts, keys[asked])
                cpu_us = block(running[asked], requests, curve.requests(size))
                if number:  # the first round warms up
                    spent[size].append(cpu_us)
    finally:
        for instance in running.values():
            instance.program.stop()
    first = spent[curve.sizes[0]]
    cells = {}
    for size in sorted(curve.sizes):
        times = sorted(one / other for one, other in zip(spent[size], first, strict=True))
        quarter = len(times) // 4
        cells[str(size)] = {
            "cpu_us": statistics.median(spent[size]),
            "times": statistics.median(times),
            "low": times[quarter],
            "high": times[-1 - quarter],
        }
    return cells


def start_gateway(folder: Path, upstream: Upstream, models: int, curve: Curve) -> Instance:
    """Start a gateway that has so many models and a router for them all."""
    gateway_under_test.MODELS[:] = [f"model-{number:03}" for number in range(1, models + 1)]
    router = train_router(folder.parent / f"router-{models}", "static")
    streams = curve.sizes if curve.ask is chunks else ()
    extra = "".join(STREAMED.format(name=f"chunks-{size}") for size in streams)
    instance = start_instance(folder.name, folder, upstream, "static", router, extra)
    wait_for(instance.program, instance.port, "/ready", START_TIMEOUT_S)
    return instance


def more_keys(instance: Instance, n: int) -> list[str]:
    """Make keys in the gateway's database, so that there are `n`."""
    engine = create_database_engine(f"sqlite:///{instance.folder / 'waypost.db'}")
    store = KeyStore(engine)
    made = [store.create_key(TEAM, str(number)) for number in range(n - 1)]
    engine.dispose()
    return [key.secret.get_secret_value() for key in made]


def block(instance: Instance, requests: Iterator[Request], n: int) -> float:
    """Send `n` requests; returns the gateway's CPU time of one, in microseconds."""
    asked = [next(requests) for _ in range(n)]
    before = settled_cpu_s(instance.program)
    asyncio.run(send(instance.port, asked))
    return (settled_cpu_s(instance.program) - before) / n * 1e6


def settled_cpu_s(program: Program) -> float:
    """Read CPU seconds once the log is written."""
    time.sleep(SETTLE_S)
    return cpu_s(program.pid)


async def send(port: int, requests: list[Request]) -> None:
    """Send requests over a few connections, each the next as soon as it has its answer."""
    left = iter(requests)

    async def converse() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LONGEST)
        for request in left:
            writer.write(post(request.body, request.key))
            status, _ = await read_answer(reader)
            if status != "200":
                raise CannotMeasure(f"the gateway answered {status}")
        writer.close()

    await asyncio.gather(*(converse() for _ in range(CONNECTIONS)))


def serve_upstream() -> int:
    """Answer with JSON, or with as many chunks as the model's name says."""
    first, *events = stream_events()
    answers = {"answers-1": whole(JSON, json_answer())}
    for size in CURVES["chunks"].sizes:
        stream = first + events[0] * (size - 2) + b"".join(events[-3:])
        answers[f"chunks-{size}"] = whole(EVENTS, stream)
    return serve(lambda _, asked: answers[asked["model"]])


if __name__ == "__main__":
    main()
