"""Makes the ledger a deployment's settings ask for, and keeps it going."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from sqlalchemy import Engine

from budget.ledger.memory import MemoryStore
from budget.ledger.store import LedgerStore
from gateway.budgets.base import BoundPrompt, SettlementLog
from gateway.budgets.book import BudgetBook
from gateway.budgets.definitions import BudgetDefinition, BudgetDefinitions
from gateway.budgets.headroom import PERIOD_S as HEADROOM_PERIOD_S
from gateway.budgets.headroom import Headroom
from gateway.budgets.journal import rebuild
from gateway.budgets.metered import MeteredLedger
from gateway.budgets.operations import BudgetDesk
from gateway.budgets.sole_counter import LEASE, TTL_S, SoleCounter
from gateway.budgets.store_health import PERIOD_S, StoreHealth
from gateway.following import follow
from gateway.settings.config import BudgetSettings, ConfigurationError
from gateway.storage.lease import RENEWALS, Lease, name_this_process


@dataclass(frozen=True, slots=True)
class Budgets:
    """A running ledger and what watches over it.

    Attributes:
        shared: Counters that all gateways share; None where they are in this process's memory.
        health: Of those; None likewise.
        sole: Looks out for other gateways with counters in memory; None where they are shared.
        serves_unchecked: Callers with budgets are served while it is down.
    """

    ledger: MeteredLedger
    book: BudgetBook
    desk: BudgetDesk
    headroom: Headroom
    shared: LedgerStore | None = None
    health: StoreHealth | None = None
    sole: SoleCounter | None = None
    serves_unchecked: bool = False

    def problem(self) -> tuple[bool, str | None]:
        """Say whether callers with budgets could be served since the start, and what is wrong."""
        if self.health is None:
            return True, None if self.sole is None else self.sole.problem
        is_well = self.health.has_answered and not self.health.is_down
        return (
            self.health.has_answered or self.serves_unchecked,
            None if is_well else "budgets cannot be checked: the store of their counters is down",
        )


@asynccontextmanager
async def open_budgets(
    settings: BudgetSettings,
    engine: Engine,
    journal: SettlementLog,
    bound_prompt: BoundPrompt,
    *,
    fixed: Sequence[BudgetDefinition] = (),
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Budgets]:
    """Run a ledger; leaving tells the store what is left to tell. Open it after the journal.

    Counters in memory begin with what the journal says was spent.

    Args:
        fixed: Budgets that settings define, not the database.

    Raises:
        ConfigurationError: The database cannot be read, or the redis extra is missing.
    """
    definitions = BudgetDefinitions(engine)
    book = BudgetBook(definitions, poll_s=settings.definitions_poll_s, fixed=fixed)
    try:
        if not await book.refresh():
            raise ConfigurationError("budgets: the database cannot be read")
        async with open_store(settings, clock=clock) as store:
            if settings.store == "memory":
                await rebuild(engine, store, clock(), fixed)
            ledger = MeteredLedger(
                book=book,
                store=store,
                journal=journal,
                bound_prompt=bound_prompt,
                settings=settings,
                shields=settings.store != "memory",
                clock=clock,
            )
            try:
                async with _running(book.watch(), ledger.run()), AsyncExitStack() as stack:
                    headroom = Headroom(definitions, store)
                    await follow(headroom, HEADROOM_PERIOD_S, stack)
                    budgets = Budgets(ledger, book, BudgetDesk(engine, store, clock), headroom)
                    yield await _watched(budgets, settings, engine, store, stack)
            finally:
                await ledger.aclose()
    finally:
        book.close()


async def _watched(
    budgets: Budgets,
    settings: BudgetSettings,
    engine: Engine,
    store: LedgerStore,
    stack: AsyncExitStack,
) -> Budgets:
    """Watch for what would make the counters wrong, or unreachable."""
    if settings.store == "memory":
        sole = SoleCounter(Lease(engine, LEASE, name_this_process(), TTL_S), budgets.book)
        stack.push_async_callback(sole.aclose)
        await follow(sole, TTL_S / RENEWALS, stack)
        return replace(budgets, sole=sole)
    health = StoreHealth(store)
    await follow(health, PERIOD_S, stack)
    is_open = settings.when_store_is_down == "open"
    return replace(budgets, shared=store, health=health, serves_unchecked=is_open)


@asynccontextmanager
async def open_store(
    settings: BudgetSettings, *, clock: Callable[[], float] = time.time
) -> AsyncIterator[LedgerStore]:
    """Open the place where counters live; Redis need not be up.

    Raises:
        ConfigurationError: The redis extra is missing, or its URL is malformed.
    """
    if settings.store == "memory" or settings.redis_url is None:
        yield MemoryStore(clock)
        return
    try:
        module = import_module("budget.ledger.redis_store")
        redis = import_module("redis.asyncio")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"budgets.store = \"redis\" needs {error.name}: pip install 'waypost[redis]'"
        ) from error
    try:
        client = _client(redis, settings.redis_url.get_secret_value())
    except (ValueError, redis.RedisError) as error:
        raise ConfigurationError(
            "budgets.redis_url: write redis://[:password@]host:port/database, or "
            "redis+cluster://[:password@]host:port for a Redis Cluster (rediss for TLS)"
        ) from error
    store: Any = module.RedisStore(
        client,
        connect_timeout_s=settings.store_timeout_s,
        call_timeout_s=settings.store_timeout_s,
    )
    try:
        yield store
    finally:
        await store.aclose()
        await client.aclose()


def _client(redis: Any, url: str) -> Any:
    """Make a client of one server, or of the cluster that the server in the URL belongs to."""
    scheme, is_cluster, rest = url.partition("+cluster://")
    if is_cluster:
        return redis.RedisCluster.from_url(f"{scheme}://{rest}")
    return redis.Redis.from_url(url)


@asynccontextmanager
async def _running(*chores: Any) -> AsyncIterator[None]:
    """Run background work while the context lasts."""
    tasks = [asyncio.create_task(chore) for chore in chores]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
