"""Calls of a ledger store, and what they must answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from budget.ledger.redis_store import RedisStore
from budget.ledger.store import LedgerStore
from budget.ledger.types import Granted, Limit, Refused
from tests.fakes.ledgers import hold
from tests.fakes.patience import PATIENCE_S
from tests.fakes.redis import RedisServer

PATIENT: dict[str, Any] = {"connect_timeout_s": PATIENCE_S, "call_timeout_s": PATIENCE_S}
"""A busy machine is no failure."""


@asynccontextmanager
async def opened(server: RedisServer, prefix: str, **options: Any) -> AsyncIterator[RedisStore]:
    """Open a store of its own on `server`."""
    client = Redis.from_url(server.url)
    store = RedisStore(client, prefix, **(PATIENT | options))
    try:
        yield store
    finally:
        await store.aclose()
        await client.aclose()


async def stands(store: LedgerStore, of: Limit) -> tuple[int, int]:
    """Return what is spent and what is held."""
    (standing,) = await store.standings([of])
    return standing.spent, standing.held


async def granted(store: LedgerStore, request_id: str, *limits: Limit, **wanted: int) -> Granted:
    """Reserve, which must be granted."""
    answer = await store.reserve(hold(request_id, *limits, **wanted))
    assert isinstance(answer, Granted)
    return answer


async def refused(store: LedgerStore, request_id: str, *limits: Limit, **wanted: int) -> Refused:
    """Reserve, which must be refused."""
    answer = await store.reserve(hold(request_id, *limits, **wanted))
    assert isinstance(answer, Refused)
    return answer
