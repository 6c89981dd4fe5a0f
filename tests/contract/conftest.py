"""The implementations under one contract."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
from redis.asyncio.cluster import RedisCluster

from budget.ledger.memory import MemoryStore
from budget.ledger.redis_store import RedisStore
from tests.fakes.clocks import ManualClock
from tests.fakes.ledger_calls import PATIENT, opened
from tests.fakes.redis import RedisServer, running_cluster, running_redis

NEW_YEARS_EVE = 1_798_761_570.0  # 2026-12-31T23:59:30Z, a Thursday


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NEW_YEARS_EVE)


@pytest.fixture(scope="session")
def cluster() -> Iterator[list[RedisServer]]:
    with running_cluster() as nodes:
        yield nodes


@pytest.fixture
def memory_store(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
async def redis_store(server: RedisServer, clock: ManualClock) -> AsyncIterator[RedisStore]:
    async with opened(server, f"test-{uuid4().hex}", clock=clock) as store:
        yield store


@pytest.fixture
async def cluster_store(
    cluster: list[RedisServer], clock: ManualClock
) -> AsyncIterator[RedisStore]:
    client = RedisCluster.from_url(cluster[0].url)
    store = RedisStore(client, f"test-{uuid4().hex}", clock=clock, **PATIENT)
    yield store
    await store.aclose()
    await client.aclose()


@pytest.fixture(params=["memory", "redis", "cluster"])
def store(request: pytest.FixtureRequest) -> MemoryStore | RedisStore:
    found: MemoryStore | RedisStore = request.getfixturevalue(f"{request.param}_store")
    return found
