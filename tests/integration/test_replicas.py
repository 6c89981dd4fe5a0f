"""Two gateway processes with one Redis and one Postgres answer as one."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from budget.ledger.redis_store import RedisStore
from budget.ledger.types import Limit, Scope
from gateway.artifacts.store import ArtifactStore
from gateway.routing.encoders import load_encoder
from gateway.routing.shared_regret import TEAM
from router_models.artifacts.artifact import read_manifest
from tests.fakes.gateway import LARGE, SMALL, Upstreams, router_for
from tests.fakes.gateways import eventually
from tests.fakes.patience import PATIENCE_S
from tests.fakes.postgres import Postgres
from tests.fakes.processes import CHAT, Serving, caller, start
from tests.fakes.redis import running_redis
from tests.fakes.server import serve
from tests.fakes.upstream import completion, json_answer

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("replicas"),  # two gateways
]

ADMIN_TOKEN = "an-admin-token-of-the-test"
SETTINGS = """
data_dir = "{data}"
[server]
port = 0
admin_port = 0
admin_token = "{token}"
[database]
url = "{database}"
[budgets]
store = "redis"
redis_url = "{redis}"
store_timeout_s = {patience_s}
[keys]
read_timeout_s = {patience_s}
[embedded]
enabled = false
[profiles.balanced]
willingness_to_pay_usd = 1.0
[providers.alpha]
base_url = "{upstream}/alpha/v1"
[providers.beta]
base_url = "{upstream}/beta/v1"
[models.small]
provider = "alpha"
price = {{ input_usd_per_mtok = 1.0, output_usd_per_mtok = 2.0 }}
[models.large]
provider = "beta"
price = {{ input_usd_per_mtok = 1.0, output_usd_per_mtok = 2.0 }}
"""
ENCODER = load_encoder("static")
FIRST = router_for(ENCODER, best=SMALL)
SECOND = router_for(ENCODER, best=LARGE, seed=1)
V1 = read_manifest(FIRST).version
V2 = read_manifest(SECOND).version
BODY = {
    "model": "auto",
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "Say hello."}],
}


@dataclass
class Replica:
    """One process, as callers and as operators see it."""

    process: Serving
    callers: httpx2.AsyncClient
    operators: httpx2.AsyncClient

    async def ask(self, key: str, model: str = "auto") -> httpx2.Response:
        """Send one request."""
        headers = {"authorization": f"Bearer {key}"}
        return await self.callers.post(CHAT, json=BODY | {"model": model}, headers=headers)

    async def serves(self) -> list[str]:
        """Read from the metrics which router this process says it serves."""
        scraped = await self.operators.get("/metrics")
        return re.findall(
            r'^waypost_router_info\{.*version="([^"]+)".*\} 1\.0$', scraped.text, re.M
        )

    async def follows(self, version: str) -> bool:
        """Whether this process serves that router."""
        return await self.serves() == [version]

    async def lost_usd(self) -> float:
        """Read from the metrics what exploring was expected to lose."""
        scraped = await self.operators.get("/metrics")
        (found,) = re.findall(r"^waypost_exploration_regret_usd_total (\S+)$", scraped.text, re.M)
        return float(found)

    async def new_key(self) -> tuple[str, str]:
        """Make a key of the default team; returns its id and itself."""
        asked = {"team_id": "default", "name": "other"}
        made = (await self.operators.post("/admin/keys", json=asked)).json()
        return made["id"], made["key"]


@dataclass
class Replicas:
    """Two processes and what they share."""

    first: Replica
    second: Replica
    key: str
    store: ArtifactStore
    redis_url: str


@asynccontextmanager
async def two_replicas(folder: Path, postgres: Postgres, more: str = "") -> AsyncIterator[Replicas]:
    """Start two of them; `more` is added to their settings."""
    upstreams = Upstreams()
    for name in ("alpha", "beta"):
        upstreams.by_name[name].answers = [json_answer(completion())]
    store = ArtifactStore(folder / "data" / "routers")
    store.activate(store.put(FIRST).version)
    store.put(SECOND)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serve(upstreams, lifespan="off"))
        redis = stack.enter_context(running_redis())
        file = folder / "waypost.toml"
        file.write_text(
            SETTINGS.format(
                data=folder / "data",
                token=ADMIN_TOKEN,
                database=postgres.new_database(),
                redis=redis.url,
                patience_s=PATIENCE_S,
                upstream=url,
            )
            + more
        )
        first, second = await asyncio.gather(_replica(file, stack), _replica(file, stack))
        (key,) = {first.process.key, second.process.key} - {None}
        assert key is not None
        yield Replicas(first, second, key, store, redis.url)


async def _replica(file: Path, stack: AsyncExitStack) -> Replica:
    process = await stack.enter_async_context(start(file))
    url = await process.started()
    callers = await stack.enter_async_context(caller(url, "none"))
    operators = await stack.enter_async_context(caller(process.admin_url, ADMIN_TOKEN))
    operators.base_url = httpx2.URL(process.admin_url)
    callers.base_url = httpx2.URL(url)
    return Replica(process, callers, operators)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres
) -> AsyncIterator[Replicas]:
    async with two_replicas(tmp_path_factory.mktemp("replicas"), postgres) as replicas:
        yield replicas


@pytest_asyncio.fixture(loop_scope="module")
async def replicas(running: Replicas) -> Replicas:
    """Two processes that run on; both serve the first router."""
    running.store.activate(V1)
    for each in (running.first, running.second):
        await eventually(partial(each.follows, V1))
    return running


def decision(answer: httpx2.Response) -> dict[str, Any]:
    """Return what the gateway says of its choice, without what differs by nature."""
    assert answer.status_code == 200, answer.text
    told = answer.json()["waypost"]
    return {name: told[name] for name in told if not name.endswith(("_id", "_s", "_ms"))}


async def test_both_give_the_same_answer_for_the_same_reasons(replicas: Replicas):
    first = decision(await replicas.first.ask(replicas.key))
    second = decision(await replicas.second.ask(replicas.key))

    assert first == second
    assert first["router_version"] == V1


async def test_a_router_activated_once_is_served_and_reported_by_both(replicas: Replicas):
    both = (replicas.first, replicas.second)
    assert [await each.serves() for each in both] == [[V1], [V1]]

    replicas.store.activate(V2)

    for each in both:
        await eventually(partial(each.follows, V2))
    answers = [await each.ask(replicas.key) for each in both]
    assert [answer.headers["x-waypost-router-version"] for answer in answers] == [V2, V2]
    assert [answer.headers["x-waypost-model"] for answer in answers] == [LARGE, LARGE]


async def test_a_key_made_and_revoked_at_one_is_known_and_forgotten_by_the_other(
    replicas: Replicas,
):
    key_id, key = await replicas.first.new_key()
    assert (await replicas.second.ask(key)).status_code == 200

    await replicas.first.operators.post(f"/admin/keys/{key_id}/revoke")

    async def is_refused() -> bool:
        return (await replicas.second.ask(key)).status_code == 401

    await eventually(is_refused)


async def test_what_is_spent_at_one_is_gone_at_the_other(replicas: Replicas):
    key_id, key = await replicas.first.new_key()
    budget = {
        "team_id": "default",
        "scope": "key",
        "scope_id": key_id,
        "measure": "requests",
        "window": "total",
        "cap": 3,
    }
    created = await replicas.first.operators.post("/admin/budgets", json=budget)
    assert created.status_code == 201, created.text

    async def is_spent(at: Replica) -> bool:
        return (await at.ask(key)).status_code == 429

    await eventually(partial(is_spent, replicas.second))
    await eventually(partial(is_spent, replicas.first))
    usage = await replicas.first.operators.get(f"/admin/budgets/{created.json()['id']}/usage")
    assert [each["spent"] for each in usage.json()["data"]] == [3]


EXPLORING = """
[routing.exploration]
kind = "epsilon"
epsilon = 1.0
max_regret_usd_per_day = 24.0
"""
"""Trying the other model is expected to lose about 0.6 USD; a sixteenth pays for two of these."""


async def test_what_exploring_loses_at_either_is_taken_from_one_cap(
    tmp_path: Path, postgres: Postgres
):
    begun_on = datetime.now(UTC).date()
    async with two_replicas(tmp_path, postgres, EXPLORING) as replicas:
        both, tried = (replicas.first, replicas.second), []
        for each in both:
            answers = [await each.ask(replicas.key) for _ in range(12)]
            tried.append(sum(one.headers["x-waypost-model"] == LARGE for one in answers))
        lost_usd = [await each.lost_usd() for each in both]

        # Right after midnight in UTC there may be but one part.
        assert 1 <= max(tried) <= 2
        assert lost_usd == [pytest.approx(0.6 * count, abs=0.15 * count) for count in tried]
        for each in both:
            await each.process.end(signal.SIGTERM)
        client = Redis.from_url(replicas.redis_url)
        counters = RedisStore(client)
        (standing,) = await counters.standings([Limit(Scope(TEAM, "team"), "nusd", "day", 0)])
        assert standing.held == 0
        if datetime.now(UTC).date() == begun_on:  # the counter is of a day
            assert standing.spent == pytest.approx(sum(lost_usd) * 1e9, abs=10)
        await counters.aclose()
        await client.aclose()


async def test_one_goes_on_when_the_other_is_told_to_stop(tmp_path: Path, postgres: Postgres):
    async with two_replicas(tmp_path, postgres) as replicas:
        assert await replicas.first.process.end(signal.SIGTERM) == 0

        assert (await replicas.second.ask(replicas.key)).status_code == 200
