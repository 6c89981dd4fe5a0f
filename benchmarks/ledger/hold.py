"""Measure how well caps hold over several gateways, and write hold.json.

Usage: python benchmarks/ledger/hold.py [--rounds N] [--out FILE]

Needs `pip install -e '.[dev]'`. Each round runs four gateway processes on a fresh PostgreSQL
database and a fresh Redis; 64 clients offer about ten times what the cap of their key admits. Then
a gateway is killed while it answers, at the default flush interval of the journal, and what the
journal misses afterwards is counted.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.fakes.gateways import Gateways, Outcome, Process, eventually, gateways_of  # noqa: E402
from tests.fakes.postgres import Postgres, running_postgres  # noqa: E402
from tests.fakes.redis import running_redis  # noqa: E402

GATEWAYS = 4
CLIENTS = 64
REQUESTS = 30
CAP_NUSD = 14_000_000
PLENTY_NUSD = 10**12
DEFAULT_FLUSH_S = 0.5
LEASE_S = 2.0


@asynccontextmanager
async def deployment(postgres: Postgres, **settings: Any) -> AsyncIterator[Gateways]:
    """Lay out gateways with a Redis of their own."""
    with running_redis() as redis, tempfile.TemporaryDirectory() as directory:
        laid_out = gateways_of(Path(directory), postgres, redis, lease_s=LEASE_S, **settings)
        async with laid_out as gateways:
            yield gateways


async def client(gateway: Process, key: str, requests: int) -> list[Outcome]:
    """Send one request after the other; ends early with its gateway."""
    outcomes: list[Outcome] = []
    for _ in range(requests):
        try:
            outcomes.append(await gateway.ask(key))
        except httpx2.TransportError:
            break
    return outcomes


async def load(gateways: Gateways, key: str, requests: int) -> list[Outcome]:
    """Let all clients send."""
    processes = gateways.processes
    sending = (client(processes[i % len(processes)], key, requests) for i in range(CLIENTS))
    return [outcome for sent in await asyncio.gather(*sending) for outcome in sent]


async def hold(postgres: Postgres) -> dict[str, Any]:
    """Offer ten times the cap and see what is spent."""
    async with deployment(postgres) as gateways:
        key_id, key = gateways.key("capped")
        _, limit = gateways.cap("key", key_id, CAP_NUSD)
        await gateways.start(GATEWAYS)
        began_s = time.monotonic()
        outcomes = await load(gateways, key, REQUESTS)
        took_s = time.monotonic() - began_s
        await eventually(gateways.agree)
        spent = (await gateways.standing(limit)).spent
        return {
            "offered": len(outcomes),
            "answered": sum(outcome.status == 200 for outcome in outcomes),
            "refused": sum(outcome.status == 429 for outcome in outcomes),
            "requests_per_s": round(len(outcomes) / took_s),
            "cap_nusd": CAP_NUSD,
            "spent_nusd": spent,
            "share_of_cap": round(spent / CAP_NUSD, 4),
        }


async def kill(postgres: Postgres) -> dict[str, Any]:
    """Kill a gateway in full flow; count what the counters have and the journal lacks."""
    async with deployment(postgres, flush_interval_s=DEFAULT_FLUSH_S) as gateways:
        key_id, key = gateways.key("capped")
        gateways.cap("key", key_id, PLENTY_NUSD)
        await gateways.start(GATEWAYS)
        sending = asyncio.create_task(load(gateways, key, REQUESTS * 2))
        answered = CLIENTS * REQUESTS // 2
        while gateways.upstream.answered < answered:  # noqa: ASYNC110 - counted by a server
            await asyncio.sleep(0.001)
        await gateways.processes[0].kill()
        outcomes = await sending
        await asyncio.sleep(LEASE_S + 2 * DEFAULT_FLUSH_S)
        await gateways.differences()
        await asyncio.sleep(2 * DEFAULT_FLUSH_S)
        found = await gateways.differences()
        ids = [outcome.request_id for outcome in outcomes]
        return {
            "answered": len(ids),
            "expired_leases": gateways.outcomes("expired"),
            "rows_missing": len(ids) - gateways.journaled(ids),
            "nusd_missing": sum(each["counted"] - each["journaled"] for each in found),
        }


async def main() -> None:
    """Run the rounds and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("hold.json"))
    options = parser.parse_args()
    with running_postgres() as postgres:
        holds = [await hold(postgres) for _ in range(options.rounds)]
        kills = [await kill(postgres) for _ in range(options.rounds)]
    figures = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "gateways": GATEWAYS,
        "clients": CLIENTS,
        "hold": holds,
        "kill in full flow": kills,
    }
    options.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
