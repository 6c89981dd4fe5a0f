"""The composition root: makes every collaborator once, hands each what it needs, closes them."""

import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import numpy as np
from fastapi import FastAPI
from starlette.routing import Route

from budget.in_flight import InFlight
from gateway.access.auth import Authenticator
from gateway.access.data_rules import DataRules
from gateway.artifacts.active import ActivePolicy
from gateway.artifacts.frontier_file import FrontierFile
from gateway.artifacts.learning_file import LearningFile
from gateway.artifacts.store import policy_store, router_store
from gateway.budgets.base import Ledger
from gateway.budgets.headroom import PERIOD_S as HEADROOM_PERIOD_S
from gateway.budgets.notices import Notices
from gateway.budgets.opening import Budgets, open_budgets
from gateway.budgets.prompt_tokens import PromptCounter, find_tokenizer
from gateway.budgets.turn_budgets import TurnBudgets
from gateway.chat.deployments import Deployments, watched
from gateway.chat.service import ChatService
from gateway.chat.turn import new_id
from gateway.endpoints.access import Access
from gateway.endpoints.admin import MetricsPage, build_admin_app
from gateway.endpoints.chat import turn_endpoints
from gateway.endpoints.errors import install_error_handlers
from gateway.endpoints.forwarding import Forwarder, forwarded_paths
from gateway.endpoints.public import PublicEndpoints
from gateway.endpoints.public_app import PublicApp
from gateway.evaluation_log.conversations import ConversationStore
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.evaluation_log.grades import GradeBook
from gateway.evaluation_log.stored_responses import ResponseStore
from gateway.following import follow
from gateway.forwarding.service import ForwardService
from gateway.grading.desk import GradingDesk
from gateway.grading.readings import read_grading
from gateway.judging.opening import caps_of, open_graded
from gateway.long_work import LongWork
from gateway.pool.pool import Pool, open_pool
from gateway.pool.readiness import Readiness
from gateway.providers.factory import build_providers
from gateway.providers.http import HttpClient
from gateway.providers.upstream import HttpProvider
from gateway.readings import (
    read_budgets,
    read_connections,
    read_embedder,
    read_exploration,
    read_log,
    read_memory,
    read_policy,
    read_process,
    read_providers,
    read_router,
)
from gateway.routing.encoders import QueryEmbedder
from gateway.routing.opening import make_routing, open_query_embedder
from gateway.routing.routing import Routing
from gateway.settings.config import GatewaySettings
from gateway.settings.server import MEMORY_PER_BODY_BYTE, ServerSettings
from gateway.startup import Startup
from gateway.storage.hanging import give_up_statements
from gateway.telemetry.connection_counts import ConnectionCounts
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import open_tracing
from gateway.telemetry.worker_metrics import WorkerMetrics


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway's two applications and what an operator should be told."""

    public: PublicApp
    admin: FastAPI
    pool: Pool
    router_version: str | None
    budgets: Budgets
    readiness: Readiness
    connections: Mapping[str, ConnectionCounts]
    grading: GradingDesk | None = None


@asynccontextmanager
async def open_gateway(
    settings: GatewaySettings,
    environ: Mapping[str, str],
    startup: Startup,
    workers: WorkerMetrics | None = None,
) -> AsyncIterator[Gateway]:
    """Run everything a gateway needs; leaving drains the log and stops the embedded models.

    Args:
        startup: The database, already of the current schema, and the admin token.
        workers: How the metrics of all workers are gathered, where there are several.

    Raises:
        ConfigurationError: The settings cannot be served.
    """
    async with AsyncExitStack() as stack:
        stack.callback(give_up_statements, startup.engine)  # last, so that no thread stays
        http = _open_http(settings, stack)
        pool = await _open_pool(settings, environ, http, stack)
        log = _open_log(settings, startup, stack)
        authenticator = _open_authenticator(settings, startup, stack)
        long_work = LongWork()
        counter = PromptCounter(load=find_tokenizer, long_work=long_work)
        budgets = await _open_budgets(settings, startup, log, counter, http, stack)
        embedder = open_query_embedder(settings, stack)
        providers = build_providers(pool.providers, http, long_work=long_work)
        routing = await _open_routing(settings, pool, embedder, providers, startup, budgets, stack)
        deployments = _deployments(pool, routing)
        ungraded = ChatService(
            routing=routing,
            turn_budgets=await _open_turn_budgets(settings, budgets.ledger, embedder, stack),
            providers=watched(providers, pool.models.values(), deployments),
            deployments=deployments,
            ledger=budgets.ledger,
            log=log,
            metrics=Metrics(),
            tracing=await stack.enter_async_context(open_tracing(settings.tracing)),
            counter=counter,
            refusals=routing.refusals,
            deadline_s=settings.server.request_deadline_s,
            stream_limit_s=settings.server.stream_deadline_s,
            long_work=long_work,
            clock=time.monotonic,
            rng=random.Random(),  # noqa: S311 (ids must differ, not be secret)
        )
        service = await stack.enter_async_context(open_graded(ungraded, settings.grading, log))
        readiness = Readiness(pool, counters_problem=budgets.problem)
        forwarding = _forwarding(settings, service, providers, budgets, counter)
        page = await _open_page(service.metrics, workers, stack)
        serving = (service, forwarding, authenticator, log, startup, readiness)
        yield Gateway(
            public=_build_public_app(settings, *serving),
            admin=_build_admin_app(startup, log, budgets, page),
            pool=pool,
            router_version=routing.serving_version,
            budgets=budgets,
            readiness=readiness,
            connections=_observe(settings, service, embedder, pool, log, budgets),
            grading=service.grading,
        )


async def _open_budgets(
    settings: GatewaySettings,
    startup: Startup,
    log: EvaluationLog,
    counter: PromptCounter,
    http: HttpClient,
    stack: AsyncExitStack,
) -> Budgets:
    """Make the ledger, which also holds what judges may cost, and tell who wants to be told."""
    caps, engine = caps_of(settings.grading), startup.engine
    opening = open_budgets(settings.budgets, engine, log, counter.bound, fixed=caps)
    budgets = await stack.enter_async_context(opening)
    url = settings.budgets.webhook_url
    if url is not None:
        notices = Notices(budgets.headroom, engine, http, url.get_secret_value())
        await follow(notices, HEADROOM_PERIOD_S, stack)
    return budgets


async def _open_routing(
    settings: GatewaySettings,
    pool: Pool,
    embedder: QueryEmbedder,
    providers: Mapping[str, HttpProvider],
    startup: Startup,
    budgets: Budgets,
    stack: AsyncExitStack,
) -> Routing:
    engine, counters = startup.engine, budgets.shared
    return await make_routing(settings, pool, embedder, providers, stack, engine, counters)


def _deployments(pool: Pool, routing: Routing) -> Deployments | None:
    """Choose among the places of models that have several, where there are such models."""
    if not any(model.deployments for model in pool.models.values()):
        return None
    rng = random.Random()  # noqa: S311 (spreads calls, guards nothing)
    return Deployments(routing.paused, routing.refusals, time.monotonic, rng)


def _open_http(settings: GatewaySettings, stack: AsyncExitStack) -> HttpClient:
    http = HttpClient.open(trust_env=settings.server.proxy_from_environment)
    stack.push_async_callback(http.aclose)
    return http


def _open_authenticator(
    settings: GatewaySettings, startup: Startup, stack: AsyncExitStack
) -> Authenticator:
    authenticator = Authenticator(startup.engine, settings.keys, DataRules(settings.data_rules))
    stack.callback(authenticator.close)
    return authenticator


def _forwarding(
    settings: GatewaySettings,
    service: ChatService,
    providers: Mapping[str, HttpProvider],
    budgets: Budgets,
    counter: PromptCounter,
) -> ForwardService:
    return ForwardService(
        providers=providers,
        ledger=budgets.ledger,
        metrics=service.metrics,
        counter=counter,
        long_work=service.long_work,
        server=settings.server,
        clock=service.clock,
        new_id=lambda: f"req_{new_id(service.rng)}",
    )


async def _open_pool(
    settings: GatewaySettings, environ: Mapping[str, str], http: HttpClient, stack: AsyncExitStack
) -> Pool:
    """Find the models, start the embedded one, and follow adapters as they come and go."""
    pool = await open_pool(settings, environ, http, settings.data_dir)
    if pool.embedded is not None:
        await pool.embedded.start()
        stack.push_async_callback(pool.embedded.aclose)
    await follow(pool.models, settings.routing.artifact_poll_s, stack)
    return pool


def _open_log(settings: GatewaySettings, startup: Startup, stack: AsyncExitStack) -> EvaluationLog:
    log = EvaluationLog(startup.engine, settings.evaluation_log, settings.spool_dir)
    log.start()
    stack.push_async_callback(log.aclose)
    return log


def _observe(
    settings: GatewaySettings,
    service: ChatService,
    embedder: QueryEmbedder,
    pool: Pool,
    log: EvaluationLog,
    budgets: Budgets,
) -> Mapping[str, ConnectionCounts]:
    """Expose at every scrape what the collaborators count themselves; connections by server."""
    store = router_store(settings)
    connections = {"public": ConnectionCounts(), "admin": ConnectionCounts()}
    for read in (
        read_log(log, settings.evaluation_log),
        read_grading(service.grading),
        read_embedder(embedder),
        read_exploration(service.routing.exploration),
        read_router(service.routing.router, store),
        FrontierFile(store.folder).collect,
        LearningFile(store.folder).collect,
        read_policy(service.turn_budgets),
        read_budgets(budgets),
        budgets.headroom.collect,
        read_providers(service.providers, pool.models, pool.embedded, pool.others),
        read_process(),
        read_connections(connections),
    ):
        service.metrics.observe(read)
    return connections


async def _open_page(
    metrics: Metrics, workers: WorkerMetrics | None, stack: AsyncExitStack
) -> MetricsPage:
    """Return what a scrape is shown: this process's metrics, or those of all workers."""
    if workers is None:
        return metrics.page
    await stack.enter_async_context(workers.answering(metrics.render))
    return workers.page


async def _open_turn_budgets(
    settings: GatewaySettings, ledger: Ledger, embedder: QueryEmbedder, stack: AsyncExitStack
) -> TurnBudgets:
    """Make turn budgets with the active policy; one that is refused leaves the built-in one."""
    policy = ActivePolicy(policy_store(settings), embedder.encoder)
    await follow(policy, settings.routing.artifact_poll_s, stack)
    return TurnBudgets(
        settings=settings.turn_budgets,
        ledger=ledger,
        policy=policy,
        embed=embedder.embed,
        min_completion_tokens=settings.budgets.min_completion_tokens,
        rng=np.random.default_rng(),
    )


def _build_admin_app(
    startup: Startup,
    log: EvaluationLog,
    budgets: Budgets,
    page: MetricsPage,
) -> FastAPI:
    return build_admin_app(
        engine=startup.engine,
        log=log,
        token=startup.admin_token,
        metrics=page,
        budgets=budgets.desk,
    )


def _memory_of_bodies(server: ServerSettings) -> InFlight:
    """Bound the memory of all bodies, and of those of one key; one of the longest always fits."""
    least = MEMORY_PER_BODY_BYTE * server.max_body_bytes
    return InFlight(
        max(server.body_memory_bytes, least), max(server.body_memory_bytes_per_key, least)
    )


def _build_public_app(
    settings: GatewaySettings,
    service: ChatService,
    forwarding: ForwardService,
    authenticator: Authenticator,
    log: EvaluationLog,
    startup: Startup,
    readiness: Readiness,
) -> PublicApp:
    server = settings.server
    memory = _memory_of_bodies(server)
    service.metrics.observe(read_memory(memory))
    # FastAPI's own pages declare no authentication and load scripts from elsewhere; its redirects
    # name the scheme it sees, so behind a proxy they would send a caller's key over plain HTTP.
    app = FastAPI(
        title="Waypost",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    install_error_handlers(app)
    stored_days = settings.evaluation_log.stored_responses_days
    responses = ResponseStore(log, startup.engine, stored_days, server.max_body_bytes)
    conversations = ConversationStore(responses)
    PublicEndpoints(
        service=service,
        authenticator=authenticator,
        grades=GradeBook(
            log,
            startup.engine,
            service.metrics.graded,
            patience_s=2 * settings.evaluation_log.flush_interval_s,
        ),
        conversations=conversations,
        models=readiness.pool.models,
        other_models=readiness.pool.others,
        profiles=settings.all_profiles,
        is_ready=readiness.state,
        max_body_bytes=server.max_body_bytes,
        memory=memory,
        long_work=service.long_work,
        passthrough=settings.passthrough.values(),
    ).install(app)
    turns = turn_endpoints(service, authenticator, server, memory, conversations)
    forwarder = Forwarder(forwarding, authenticator, server, memory, service.long_work)
    calls = forwarded_paths(forwarder, settings, readiness.pool)
    # In the table of routes too: what walks it must see every endpoint there is.
    app.router.routes += [Route(path, turn, methods=["POST"]) for path, turn in turns.items()]
    app.router.routes += calls.routes()
    access = Access(
        service.metrics.requests,
        is_logged=server.log_format == "json",
        clock=service.clock,
        new_id=forwarding.new_id,
    )
    return PublicApp(turns, app, readiness, access, server.cors_origins, calls)
