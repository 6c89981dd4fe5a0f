"""Measure what reserving and settling a turn costs the gateway, and write results.json.

Usage: python benchmarks/ledger/run.py [--turns N] [--out FILE]

Needs `pip install -e '.[dev]'`. CPU seconds are those of this process, system calls included, so
other work on the machine disturbs them little; the cost of redis-py's PING is measured beside them
as a yardstick that moves with the machine. Redis' own CPU is reported apart.
"""

import argparse
import asyncio
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from redis.asyncio import Redis

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from budget.ledger.memory import MemoryStore  # noqa: E402
from budget.ledger.redis_store import RedisStore  # noqa: E402
from budget.ledger.store import LedgerStore  # noqa: E402
from budget.ledger.types import Granted, Hold, Limit, Scope  # noqa: E402
from gateway.budgets.book import BudgetBook  # noqa: E402
from gateway.budgets.definitions import BudgetDefinitions  # noqa: E402
from gateway.budgets.metered import MeteredLedger  # noqa: E402
from gateway.budgets.prompt_tokens import PromptCounter, worst_prompt_tokens  # noqa: E402
from gateway.settings.config import BudgetSettings  # noqa: E402
from gateway.types import Caller, Usage  # noqa: E402
from gateway.wire import parse_chat_request  # noqa: E402
from tests.fakes.budgets import MODELS, Journal, budget, migrated  # noqa: E402
from tests.fakes.redis import RedisServer, running_redis  # noqa: E402

ROUNDS = 5
ROWS_AT_ONCE = 200
TARGETS_MS = {
    "ledger, in process": 0.05,
    "in process": 0.05,
    "redis, 1 at a time": 0.2,
    "redis, 32 at a time": 0.2,
}
KEY, CONVERSATION = Scope("acme", "key", "key-1"), Scope("acme", "conversation", "conv-1")
LIMITS = (
    Limit(Scope("acme", "team"), "nusd", "month", 10**15),
    Limit(KEY, "nusd", "day", 10**14),
    Limit(KEY, "tokens", "minute", 10**12),
    Limit(KEY, "requests", "minute", 10**9),
    Limit(KEY, "concurrent", "now", 1000),
    Limit(CONVERSATION, "nusd", "total", 10**14),
)
BODY = {
    "model": "auto",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France? " * 5},
    ],
    "temperature": 0.2,
}


CAPS = {
    "team": [("nusd", "month")],
    "key": [("nusd", "day"), ("tokens", "minute"), ("requests", "minute"), ("concurrent", "now")],
    "user": [("nusd", "day")],
    "conversation": [("nusd", "total")],
}


async def cpu_ms(turn: Callable[[str], Awaitable[Any]], turns: int, at_a_time: int = 1) -> float:
    """Run turns and return the CPU milliseconds of each."""

    async def caller(number: int) -> None:
        for turn_number in range(turns // at_a_time):
            await turn(f"{number}-{turn_number}-{time.monotonic_ns()}")

    await caller(-1)
    started = time.process_time()
    await asyncio.gather(*(caller(number) for number in range(at_a_time)))
    return (time.process_time() - started) * 1000 / (turns // at_a_time * at_a_time)


def turn_on(store: LedgerStore) -> Callable[[str], Awaitable[None]]:
    """Return a turn under six limits: reserve, then settle half."""

    async def turn(request_id: str) -> None:
        hold = Hold(request_id, LIMITS, 50_000, 120, 600_000_000, 1, 4_096, 60.0)
        granted = await store.reserve(hold)
        assert isinstance(granted, Granted)
        await store.settle("acme", request_id, granted.nusd // 2, granted.tokens // 2)

    return turn


@contextmanager
def metered_turn() -> Iterator[Callable[[str], Awaitable[None]]]:
    """Return a turn of the whole ledger under seven limits, as the gateway reserves and settles.

    That is: find the limits, the end user and the conversation, bound the prompt, hold, settle,
    make the journal's row, and acknowledge it once it is kept.
    """
    with tempfile.TemporaryDirectory() as directory:
        engine = migrated(f"sqlite:///{directory}/waypost.db")
        for scope, caps in CAPS.items():
            for measure, window in caps:
                budget(engine, 10**15, scope=scope, measure=measure, window=window)
        journal, book = Journal(), BudgetBook(BudgetDefinitions(engine))
        ledger = MeteredLedger(
            book=book,
            store=MemoryStore(time.time),
            journal=journal,
            bound_prompt=PromptCounter().bound,
            settings=BudgetSettings(),
            shields=False,
        )
        request = parse_chat_request(
            json.dumps({**BODY, "user": "alice"}).encode(),
            {b"x-waypost-conversation-id": b"talk"},
        )

        async def turn(request_id: str) -> None:
            if not book.revision:
                await book.refresh()
            held = await ledger.reserve(request_id, Caller("k1", "blue"), request, MODELS)
            await ledger.settle(held, Usage(60, 20), 100_000, model="m")
            if len(journal.rows) == ROWS_AT_ONCE:
                await ledger.maintain()
                journal.rows.clear()
                journal.taken = 0

        yield turn
        book.close()
        engine.dispose()


async def measure(server: RedisServer, turns: int) -> dict[str, list[float]]:
    """Measure everything once a round, in turn, so that a busy moment hurts all alike."""
    client = Redis.from_url(server.url)
    shared = RedisStore(client)
    in_redis, in_process = turn_on(shared), turn_on(MemoryStore(time.time))
    results: dict[str, list[float]] = {}
    with metered_turn() as ledger_turn:
        for _ in range(ROUNDS):
            for name, cost_ms in (
                ("ledger, in process", await cpu_ms(ledger_turn, turns)),
                ("in process", await cpu_ms(in_process, turns)),
                ("redis, 1 at a time", await cpu_ms(in_redis, turns)),
                ("redis, 32 at a time", await cpu_ms(in_redis, turns, 32)),
                ("redis-py PING", await cpu_ms(lambda _: client.ping(), turns)),
            ):
                results.setdefault(name, []).append(cost_ms)
    await shared.aclose()
    await client.aclose()
    return results


def redis_us_per_call(server: RedisServer) -> float:
    """Read from Redis how long one run of the script took on average."""
    stats = server.command("INFO", "commandstats").decode()
    (line,) = [line for line in stats.splitlines() if line.startswith("cmdstat_evalsha:")]
    return float(line.split("usec_per_call=")[1].split(",")[0])


def prompt_bound_ms(turns: int) -> float:
    """Measure the bound of a small prompt."""
    started = time.process_time()
    for _ in range(turns):
        worst_prompt_tokens(BODY)
    return (time.process_time() - started) * 1000 / turns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json")
    options = parser.parse_args()
    with running_redis() as server:
        results = uvloop.run(measure(server, options.turns))
        redis_us = redis_us_per_call(server)
    results["prompt bound"] = [prompt_bound_ms(options.turns) for _ in range(ROUNDS)]
    medians = {name: statistics.median(values) for name, values in results.items()}
    for name, median in medians.items():
        target = TARGETS_MS.get(name)
        verdict = (
            ""
            if target is None
            else f"  target {target}: {'met' if median <= target else 'MISSED'}"
        )
        ratio = median / medians["redis-py PING"]
        print(f"{name:22s} {median:.4f} CPU-ms  {ratio:5.2f} x PING{verdict}")
    print(f"{'redis, per call':22s} {redis_us / 1000:.4f} ms of Redis' own time")
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "limits": len(LIMITS),
        "turns": options.turns,
        "median_cpu_ms": medians,
        "rounds_cpu_ms": results,
        "redis_us_per_call": redis_us,
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
