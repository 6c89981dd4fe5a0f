"""The real gateway on real sockets, in front of scripted upstreams, driven as callers drive it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx2
import numpy as np
from sqlalchemy import Engine, Row, select

from gateway.access.keys import ensure_first_key
from gateway.app import Gateway, open_gateway
from gateway.artifacts.store import ArtifactStore, router_store
from gateway.providers.refusals import Refusals
from gateway.routing.encoders import load_encoder
from gateway.settings.config import GatewaySettings
from gateway.startup import prepare
from gateway.storage.database import create_database_engine
from migrations.tables import TURNS
from router_models.artifacts.artifact import dump
from router_models.estimators.arrays import Scaler
from router_models.estimators.kmeans import CellStatistics, KMeansEstimator
from router_models.types import USD, Encoder, Unit
from tests.fakes.artifacts import CREATED_AT
from tests.fakes.patience import PATIENCE_S
from tests.fakes.schemas import closing, with_schema
from tests.fakes.server import serve
from tests.fakes.turns import until
from tests.fakes.upstream import ScriptedUpstream

SMALL = "small"
LARGE = "large"
CLAUDE = "sonnet"
ALPHA_KEY = "sk-alpha-secret"
GAMMA_KEY = "sk-gamma-secret"
PRICE = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}
N_CLUSTERS = 4


class Upstreams:
    """Several upstreams behind one socket, told apart by the first part of the path."""

    def __init__(self) -> None:
        self.by_name: dict[str, Any] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all scripts and all requests."""
        self.by_name = {name: ScriptedUpstream() for name in ("alpha", "beta", "gamma", "delta")}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.by_name[scope["path"].split("/")[1]](scope, receive, send)


class SteppedUpstream:
    """Begins an event stream, then sends what the test tells it, when it tells it."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()
        self.client_has_left = asyncio.Event()
        self.requests = 0
        self.sent_bytes = 0
        self._steps: asyncio.Queue[bytes | None] = asyncio.Queue()

    def send(self, chunk: bytes) -> None:
        """Have `chunk` sent."""
        self._steps.put_nowait(chunk)

    def end(self) -> None:
        """Have the body ended."""
        self._steps.put_nowait(None)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests += 1
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        watching = asyncio.create_task(self._watch(receive))
        self.has_begun.set()
        try:
            while (chunk := await self._steps.get()) is not None:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                self.sent_bytes += len(chunk)
            await send({"type": "http.response.body", "body": b""})
        finally:
            watching.cancel()

    async def _watch(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.client_has_left.set()
        self.end()


@dataclass(frozen=True)
class RunningGateway:
    """A gateway that serves.

    Attributes:
        url: Of the callers' side, without ``/v1``.
        upstreams: ``alpha`` hosts `SMALL`, ``beta`` hosts `LARGE`; both speak OpenAI's dialect.
            ``gamma`` hosts `CLAUDE` and speaks Anthropic's.
        key: A virtual key of the team ``default``.
    """

    url: str
    upstreams: Upstreams
    key: str
    store: ArtifactStore
    engine: Engine
    app: Gateway
    settings: GatewaySettings

    @property
    def refusals(self) -> Refusals:
        """What models refused lately."""
        found: Refusals = self.app.public.turns["/v1/chat/completions"].service.refusals
        return found

    @property
    def alpha(self) -> ScriptedUpstream:
        """The upstream that the router prefers."""
        upstream: ScriptedUpstream = self.upstreams.by_name["alpha"]
        return upstream

    @property
    def beta(self) -> ScriptedUpstream:
        """The upstream that is fallen back on."""
        upstream: ScriptedUpstream = self.upstreams.by_name["beta"]
        return upstream

    @property
    def gamma(self) -> ScriptedUpstream:
        """The upstream that speaks Anthropic's dialect."""
        upstream: ScriptedUpstream = self.upstreams.by_name["gamma"]
        return upstream

    def caller(self, key: str | None = None) -> httpx2.AsyncClient:
        """Open a plain HTTP client that sends `key`, by default the gateway's first."""
        headers = {"authorization": f"Bearer {key or self.key}"}
        return httpx2.AsyncClient(
            base_url=self.url, headers=headers, timeout=PATIENCE_S, trust_env=False
        )

    async def turn(self, request_id: str) -> Row[Any]:
        """Return the log's row of a request, once it is written."""
        await until(lambda: self._row(request_id) is not None)
        row = self._row(request_id)
        assert row is not None
        return row

    async def labelled_turn(self, job: str) -> Row[Any]:
        """Return the log's row of the request whose metadata name `job`, once it is written."""
        await until(lambda: job in self._by_job())
        return self._by_job()[job]

    async def turns(self, count: int) -> list[Row[Any]]:
        """Return the log's rows in order, once there are `count`."""
        await until(lambda: len(self._rows()) >= count)
        return self._rows()

    def _row(self, request_id: str) -> Row[Any] | None:
        with self.engine.connect() as connection:
            found = select(TURNS).where(TURNS.c.request_id == request_id)
            return connection.execute(found).one_or_none()

    def _by_job(self) -> dict[str | None, Row[Any]]:
        return {row.metadata.get("job"): row for row in self._rows()}

    def _rows(self) -> list[Row[Any]]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(TURNS).order_by(TURNS.c.request_id)))


def make_settings(
    data_dir: Path,
    upstream_url: str,
    limits: Mapping[str, Any],
    also: Mapping[str, Mapping[str, Any]],
    **changes: Any,
) -> GatewaySettings:
    """Settings of three providers with a model each.

    Args:
        limits: Added to the table of every provider.
        also: Added to the tables of providers by name; ``delta`` is a fourth one without models.
        changes: Tables to replace.
    """
    patient = {"connect_timeout_s": PATIENCE_S, "queue_timeout_s": PATIENCE_S}
    limits = {"max_retries": 0, "breaker_failures": 1000, **patient, **limits}
    alpha = {"base_url": f"{upstream_url}/alpha/v1", "api_key": ALPHA_KEY, **limits}
    beta = {"base_url": f"{upstream_url}/beta/v1", **limits}
    gamma: dict[str, Any] = {
        "base_url": f"{upstream_url}/gamma",
        "kind": "anthropic",
        "api_key": GAMMA_KEY,
    }
    gamma |= limits
    providers: dict[str, dict[str, Any]] = {"alpha": alpha, "beta": beta, "gamma": gamma}
    for name, table in also.items():
        others = {"base_url": f"{upstream_url}/{name}/v1", **limits}
        providers[name] = {**providers.get(name, others), **table}
    models = {
        SMALL: {"provider": "alpha", "upstream_name": "alpha-small", "price": PRICE},
        LARGE: {"provider": "beta", "upstream_name": "beta-large", "price": PRICE},
        CLAUDE: {"provider": "gamma", "upstream_name": "claude-sonnet-4-5", "price": PRICE},
    }
    models[SMALL]["capabilities"] = {"vision": True}
    return GatewaySettings.model_validate(
        {
            "data_dir": data_dir,
            "server": {"port": 0, "admin_port": 0, "max_body_bytes": 1_000_000},
            "evaluation_log": {"flush_interval_s": 0.01},
            "keys": {"read_timeout_s": PATIENCE_S},
            "routing": {"encoder": "static", "artifact_poll_s": 0.01, "prior": False},
            "embedded": {"enabled": False},
            "profiles": {"balanced": {"willingness_to_pay_usd": 1.0, "models": [SMALL, LARGE]}},
            "providers": providers,
            "models": models,
            **changes,
        }
    )


def router_for(encoder: Encoder, best: str = SMALL, seed: int = 0, unit: Unit = USD) -> bytes:
    """Make an artefact that predicts `best` to be the better of the two models on any query.

    Both answer with one token, or for a millionth of a USD.
    """
    rng = np.random.default_rng(seed)
    models = (SMALL, LARGE)
    points = rng.standard_normal((10 * N_CLUSTERS, encoder.dimension)).astype(np.float32)
    quality = rng.uniform(0.1, 0.3, (len(points), 2)).astype(np.float32)
    quality[:, models.index(best)] += np.float32(0.6)
    cost = np.full_like(quality, 1e-6)
    clusters = np.arange(len(points)) % N_CLUSTERS
    centroids = points[:N_CLUSTERS] / np.linalg.norm(points[:N_CLUSTERS], axis=1, keepdims=True)
    tenth = np.full(N_CLUSTERS, 0.1, np.float32)
    estimator = KMeansEstimator(
        models,
        Scaler.identity(encoder.dimension),
        centroids,
        tenth,
        tenth * 100,
        CellStatistics.gather(clusters, quality, cost, N_CLUSTERS),
    )
    return dump(
        estimator,
        encoder,
        created_at=CREATED_AT,
        training={"seed": seed},
        provenance={"train_queries": len(points)},
        unit=unit,
    )


@cache
def _usual_router() -> bytes:
    return router_for(load_encoder("static"))


@asynccontextmanager
async def running_gateway(
    data_dir: Path,
    *,
    router: bytes | None = None,
    keeps_store: bool = False,
    limits: Mapping[str, Any] = MappingProxyType({}),
    also: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    **changes: Any,
) -> AsyncIterator[RunningGateway]:
    """Run a gateway whose data live in `data_dir`; a router that prefers `SMALL` by default.

    Args:
        router: Activated before the start.
        keeps_store: Activate nothing; what is in the store already decides.
        limits: Added to the settings of every provider.
        also: Added to the settings of providers by name; ``delta`` is a fourth one.
        changes: Tables of the settings to replace.
    """
    upstreams = Upstreams()
    async with serve(upstreams, lifespan="off") as upstream_url:
        settings = make_settings(data_dir, upstream_url, limits, also, **changes)
        store = router_store(settings)
        if not keeps_store:
            store.activate(store.put(_usual_router() if router is None else router).version)
        # Else each of some hundred gateways would migrate a database of its own.
        with_schema(create_database_engine(settings.database_url)).dispose()
        startup = prepare(settings)
        key = ensure_first_key(startup.engine)
        assert key is not None
        environ: Mapping[str, str] = {}
        with closing(startup.engine):
            async with (
                open_gateway(settings, environ, startup) as app,
                serve(app.public, lifespan="off") as url,
            ):
                yield RunningGateway(url, upstreams, key, store, startup.engine, app, settings)
