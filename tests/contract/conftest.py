"""The implementations under one contract."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from gateway.ledger.memory import MemoryStore
from gateway.ledger.redis_store import RedisStore
from tests.fakes.clocks import ManualClock
from tests.fakes.ledger_calls import opened
from tests.fakes.redis import RedisServer, running_redis

NEW_YEARS_EVE = 1_798_761_570.0  # 2026-12-31T23:59:30Z, a Thursday


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NEW_YEARS_EVE)


@pytest.fixture(params=["memory", "redis"])
async def store(
    request: pytest.FixtureRequest, server: RedisServer, clock: ManualClock
) -> AsyncIterator[MemoryStore | RedisStore]:
    async with opened(server, f"test-{uuid4().hex}", clock=clock) as shared:
        yield {"memory": MemoryStore(clock), "redis": shared}[request.param]
