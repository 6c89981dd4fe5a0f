"""Measure what a conversation takes in Redis and what a turn takes in Postgres; write results.json.

Usage: python benchmarks/capacity/measure.py [--conversations N] [--turns N] [--streams N]

Needs `pip install -e '.[dev]'`. Sizes are what the servers say of themselves, so a busy machine
does not change them; rows per second are this machine's, with the database beside the writer.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from redis.asyncio import Redis
from sqlalchemy import Engine, text

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from budget.ledger.redis_store import RedisStore  # noqa: E402
from budget.ledger.settlements import Lease, SettlementRecord, limit_codes  # noqa: E402
from budget.ledger.types import Granted, Limit, Scope, Window  # noqa: E402
from gateway.candidate_records import CandidateRecord, Candidates  # noqa: E402
from gateway.evaluation_log.evaluation_log import EvaluationLog  # noqa: E402
from gateway.settings.config import EvaluationLogSettings  # noqa: E402
from gateway.storage.database import create_database_engine, ensure_schema  # noqa: E402
from gateway.types import TurnRecord  # noqa: E402
from tests.fakes.ledgers import hold  # noqa: E402
from tests.fakes.postgres import running_postgres  # noqa: E402
from tests.fakes.processes import CHAT, Serving, caller, start  # noqa: E402
from tests.fakes.redis import running_redis  # noqa: E402
from tests.fakes.server import serve  # noqa: E402
from tests.fakes.turns import make_turn, until  # noqa: E402
from tests.fakes.upstream import Answer, ScriptedUpstream, stream_chunks  # noqa: E402

DIMENSION = 336
MODELS = 12
TEXT_BYTES = 1000
BATCH = 50
"""Streams of one client, which opens 100 connections at most."""
GATEWAY = """
data_dir = "{data}"
[server]
port = 0
admin_port = 0
[embedded]
enabled = false
[providers.alpha]
base_url = "{upstream}/v1"
[models.small]
provider = "alpha"
price = {{ input_usd_per_mtok = 1.0, output_usd_per_mtok = 2.0 }}
"""


async def redis_bytes(conversations: int) -> dict[str, float]:
    """Return bytes per conversation and per turn, by what Redis holds more after many of them."""
    found: dict[str, float] = {}
    kinds: list[tuple[str, Window, bool]] = [
        ("conversation_total", "total", True),
        ("conversation_month", "month", True),
        ("open_turn", "month", False),
    ]
    for name, window, settles in kinds:
        with running_redis() as server:
            client = Redis.from_url(server.url)
            store = RedisStore(client, connect_timeout_s=10, call_timeout_s=10)
            await _turns(store, 1, window, settles=settles)
            before = int((await client.info("memory"))["used_memory"])
            await _turns(store, conversations, window, settles=settles)
            after = int((await client.info("memory"))["used_memory"])
            if settles:
                # What is remembered for a minute of each settled turn is not the conversation's.
                kept = [key async for key in client.scan_iter(count=1000) if b"conv-" not in key]
                found[f"{name}_with_its_last_turn"] = (after - before) / conversations
                await client.delete(*kept)
                after = int((await client.info("memory"))["used_memory"])
            found[name] = (after - before) / conversations
            await store.aclose()
            await client.aclose()
    return {name: round(size) for name, size in found.items()}


async def _turns(store: RedisStore, count: int, window: Window, *, settles: bool) -> None:
    for number in range(count):
        scope = Scope("acme", "conversation", f"conv-{count}-{number:08d}-0123456789abcdef")
        request_id = f"req-{count}-{number:08d}"
        wanted = hold(request_id, Limit(scope, "nusd", window, 10**12), nusd=5_000, tokens=50)
        granted = await store.reserve(wanted)
        assert isinstance(granted, Granted)
        if settles:
            await store.settle("acme", request_id, 4_000, 60)


def turn(number: int, *, has_text: bool) -> TurnRecord:
    """A routed turn as a gateway with twelve models logs it."""
    rng = np.random.default_rng(number)
    candidates = tuple(
        CandidateRecord(
            f"provider-model-{each}", quality, cost, utility, share, is_eligible=True, verdict="ok"
        )
        for each, (quality, cost, utility, share) in enumerate(rng.random((MODELS, 4)).tolist())
    )
    return replace(
        make_turn(number),
        query_embedding=rng.standard_normal(DIMENSION).astype(np.float32),
        query_text=rng.bytes(TEXT_BYTES // 2).hex() if has_text else None,
        candidates=Candidates.of(candidates),
    )


async def postgres_bytes(turns: int) -> dict[str, Any]:
    """Return bytes per row with all indexes, and rows per second of one gateway's writer."""
    found: dict[str, Any] = {}
    with running_postgres() as server, tempfile.TemporaryDirectory() as directory:
        for name, has_text in (("turn", False), ("turn_with_1000_bytes_of_text", True)):
            engine = create_database_engine(server.new_database())
            ensure_schema(engine)
            records = [turn(number, has_text=has_text) for number in range(turns)]
            found[f"{name}_rows_per_s"] = round(turns / await _write(engine, directory, records))
            found[f"{name}_bytes"] = _bytes_per_row(engine, "turns", turns)
            engine.dispose()
        engine = create_database_engine(server.new_database())
        ensure_schema(engine)
        settled = [settlement(number) for number in range(turns)]
        found["settlement_rows_per_s"] = round(turns / await _write(engine, directory, settled))
        found["settlement_bytes"] = _bytes_per_row(engine, "settlements", turns)
        engine.dispose()
    return found


def settlement(number: int) -> SettlementRecord:
    """The journal's row of a turn under three limits."""
    conversation = f"conv-{number // 8:08d}"
    limits = (
        Limit(Scope("default", "team"), "nusd", "month", 10**15),
        Limit(Scope("default", "key", "0123456789ab"), "nusd", "day", 10**15),
        Limit(Scope("default", "conversation", conversation), "output", "total", 10**9),
    )
    lease = Lease(
        f"req_{number:08d}",
        "default",
        "0123456789ab",
        None,
        conversation,
        limit_codes(limits),
        1_760_000_000.0,
    )
    return SettlementRecord(
        lease=lease,
        model="provider-model-1",
        held_nusd=50_000,
        held_tokens=500,
        charged_nusd=40_000,
        charged_tokens=400,
        is_estimated=False,
        outcome="answered",
        settled_at_unix_s=1_760_000_002.0 + number,
    )


async def _write(engine: Engine, directory: str, records: list[Any]) -> float:
    """Write records through the evaluation log; returns the seconds it took."""
    settings = EvaluationLogSettings(queue_rows=len(records) + 1, retention_days=None)
    log = EvaluationLog(engine, settings, Path(directory))
    for record in records:
        put = log.record if isinstance(record, TurnRecord) else log.record_settlement
        put(record)
    begun = time.monotonic()
    log.start()
    await until(lambda: log.counters.written + log.counters.dropped == len(records), timeout_s=200)
    assert not log.counters.dropped
    took_s = time.monotonic() - begun
    await log.aclose()
    return took_s


def _bytes_per_row(engine: Engine, table: str, rows: int) -> int:
    with engine.connect() as connection:
        size = connection.scalar(text(f"SELECT pg_total_relation_size('{table}')"))
    assert size is not None
    return round(int(size) / rows)


async def kb_per_open_stream(streams: int) -> float:
    """Return by how much a gateway process grows for each stream that is open on both sides."""
    upstream = ScriptedUpstream(Answer((stream_chunks()[0],), stalls=True))
    with tempfile.TemporaryDirectory() as directory:
        async with serve(upstream, lifespan="off") as url:
            file = Path(directory) / "waypost.toml"
            file.write_text(GATEWAY.format(data=directory, upstream=url))
            async with start(file) as gateway, AsyncExitStack() as stack:
                address = await gateway.started()
                await _open_streams(gateway, address, stack, BATCH)
                before = _resident_kb(gateway)
                for _ in range(streams // BATCH):
                    await _open_streams(gateway, address, stack, BATCH)
                return round((_resident_kb(gateway) - before) / streams, 1)


async def _open_streams(gateway: Serving, url: str, stack: AsyncExitStack, count: int) -> None:
    assert gateway.key is not None
    http = await stack.enter_async_context(caller(url, gateway.key))
    body = {"model": "small", "stream": True, "messages": [{"role": "user", "content": "Hello."}]}
    for _ in range(count):
        opened = await stack.enter_async_context(http.stream("POST", CHAT, json=body))
        chunks = opened.aiter_raw()
        stack.push_async_callback(chunks.aclose)
        await anext(chunks)


def _resident_kb(gateway: Serving) -> int:
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


async def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=20_000)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--turns", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json")
    given = parser.parse_args()
    results = {
        "redis_bytes": await redis_bytes(given.conversations),
        "gateway_kb_per_open_stream": await kb_per_open_stream(given.streams),
        "postgres": await postgres_bytes(given.turns),
    }
    given.out.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
