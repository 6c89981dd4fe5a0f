"""Makes routing from the settings: its encoder, the active router, what use teaches it."""

import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial

import numpy as np
from sqlalchemy import Engine

from budget.errors import LedgerUnavailable
from budget.ledger.store import LedgerStore
from gateway.artifacts.active import ActiveRouter
from gateway.artifacts.store import router_store
from gateway.embedded.routers import packaged_router
from gateway.evaluation_log.graded_answers import GradedAnswers
from gateway.following import follow
from gateway.pool.pool import Pool, open_pool
from gateway.providers.base import Provider
from gateway.providers.http import HttpClient
from gateway.providers.refusals import Refusals
from gateway.routing.canary import Canary, read_canary
from gateway.routing.encoders import QueryEmbedder, load_encoder, open_embedder
from gateway.routing.exploring import Exploring, LentRegret, exploring, never
from gateway.routing.prior import open_prior
from gateway.routing.routing import Routing
from gateway.routing.shared_regret import POLLS, SharedRegret
from gateway.routing.use import POLL_S, LearningFromUse
from gateway.settings.config import ConfigurationError, GatewaySettings
from gateway.types import Place


def open_query_embedder(settings: GatewaySettings, stack: AsyncExitStack) -> QueryEmbedder:
    """Load the encoder that the settings name, with a cache of what it encoded."""
    encoder = load_encoder(settings.routing.encoder)
    embedder = open_embedder(encoder, max_entries=settings.routing.embedding_cache_entries)
    stack.callback(embedder.close)
    return embedder


async def make_routing(
    settings: GatewaySettings,
    pool: Pool,
    embedder: QueryEmbedder,
    providers: Mapping[str, Provider],
    stack: AsyncExitStack,
    engine: Engine | None = None,
    counters: LedgerStore | None = None,
) -> Routing:
    """Make routing with the active router; one that is refused leaves none.

    Args:
        engine: Of the log that routing learns from; without it, it learns nothing.
        counters: That all gateways share; None where each has its own cap on exploration.
    """
    router = ActiveRouter(
        router_store(settings),
        encoder=embedder.encoder,
        default_file=packaged_router(embedder.encoder.id, settings.embedded),
    )
    await follow(router, settings.routing.artifact_poll_s, stack)
    prior = open_prior(embedder.encoder) if settings.routing.prior else None
    is_graded, rng, canary = never, np.random.default_rng(), None
    if engine is not None:
        grades = GradedAnswers(engine, embedder.encoder_id)
        use = LearningFromUse(grades, prior, pool.models, lambda: datetime.now(UTC))
        is_graded = use.is_graded
        await follow(use, POLL_S, stack)
        canary = Canary(partial(read_canary, engine), router, rng)
        await follow(canary, settings.routing.artifact_poll_s, stack)
    explored = exploring(
        settings.routing.exploration, is_graded, time.monotonic, is_shared=counters is not None
    )
    if counters is not None:
        await _share_cap(explored, counters, settings.budgets.lease_s, stack)
    return Routing(
        models=pool.models,
        profiles=settings.all_profiles,
        default_profile=settings.routing.default_profile,
        default_model=_default_model(settings, pool),
        exploration=explored,
        embedder=embedder,
        router=router,
        paused=_paused_of(providers),
        refusals=Refusals(time.monotonic),
        rng=rng,
        prior=prior,
        canary=canary,
    )


async def _share_cap(
    explored: Exploring, counters: LedgerStore, lease_s: float, stack: AsyncExitStack
) -> None:
    """Have parts of the cap lent to this process, and the last one given back at the end."""
    if not isinstance(explored.budget, LentRegret):
        return
    shared = SharedRegret(explored.budget, counters, lease_s)

    async def end() -> None:
        with suppress(LedgerUnavailable):
            await shared.aclose()

    stack.push_async_callback(end)
    await follow(shared, lease_s / POLLS, stack)


@asynccontextmanager
async def open_routing(
    settings: GatewaySettings, environ: Mapping[str, str]
) -> AsyncIterator[Routing]:
    """Make routing alone, for dry runs without a gateway: no model is started or called."""
    async with AsyncExitStack() as stack:
        http = HttpClient.open(trust_env=settings.server.proxy_from_environment)
        stack.push_async_callback(http.aclose)
        pool = await open_pool(settings, environ, http, settings.data_dir)
        if pool.embedded is not None:
            stack.push_async_callback(pool.embedded.aclose)
        yield await make_routing(settings, pool, open_query_embedder(settings, stack), {}, stack)


def _default_model(settings: GatewaySettings, pool: Pool) -> str:
    """Return the declared default, else the first model of the pool."""
    declared = settings.routing.default_model
    if declared is None:
        return next(iter(pool.models))
    if declared not in pool.models:
        known = ", ".join(pool.models)
        raise ConfigurationError(f"routing.default_model: no model {declared!r}; known: {known}")
    return declared


def _paused_of(providers: Mapping[str, Provider]) -> Callable[[], Collection[Place]]:
    def paused() -> Collection[Place]:
        return {(name, model) for name, one in providers.items() for model in one.paused()}

    return paused
