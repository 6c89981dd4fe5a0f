"""Several real gateway processes that share a database, a Redis and an upstream."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx2
import orjson
from redis.asyncio import Redis
from sqlalchemy import Engine, func, select

from budget.ledger.redis_store import RedisStore
from budget.ledger.types import Limit, Standing
from gateway.access.keys import KeyStore, ensure_first_key
from gateway.budgets.definitions import BudgetDefinition, BudgetDefinitions, scope_of
from gateway.budgets.operations import BudgetDesk
from gateway.storage.database import create_database_engine, ensure_schema
from migrations.tables import SETTLEMENTS
from tests.fakes.ledger_calls import PATIENT
from tests.fakes.patience import PATIENCE_S
from tests.fakes.processes import ROOT, start
from tests.fakes.redis import RedisServer
from tests.fakes.schemas import closing
from tests.fakes.server import serve
from tests.fakes.upstream import JSON, completion

CHAT = "/v1/chat/completions"
TEAM = "default"
MODEL = "small"
STALL = "Stall."
INPUT_NUSD = 1_000
OUTPUT_NUSD = 2_000
MAX_TOKENS = 16
WORST_NUSD = 86 * INPUT_NUSD + MAX_TOKENS * OUTPUT_NUSD
"""What the gateway holds for ``Say hello.``, or less."""
SETTINGS = """
data_dir = "{data}"
[database]
url = "{database}"
[server]
port = 0
admin_port = 0
[embedded]
enabled = false
[providers.alpha]
base_url = "{upstream}/v1"
connect_timeout_s = {patience_s}
queue_timeout_s = {patience_s}
max_retries = 0
[models.small]
provider = "alpha"
price = {{ input_usd_per_mtok = 1.0, output_usd_per_mtok = 2.0 }}
[routing]
encoder = "static"
[evaluation_log]
flush_interval_s = {flush_interval_s}
[keys]
read_timeout_s = {patience_s}
[budgets]
store = "redis"
redis_url = "{redis}"
store_timeout_s = {patience_s}
definitions_poll_s = 0.05
lease_s = {lease_s}
when_store_is_down = "{when_store_is_down}"
"""


class Database(Protocol):
    """Where gateways keep what they share; `Postgres` is one."""

    def new_database(self) -> str:
        """Return the URL of an empty database."""
        ...


class MeteringUpstream:
    """Answers with a usage that differs from request to request; some requests it leaves open."""

    def __init__(self) -> None:
        self.answered = 0
        self.stalled = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raw, more = b"", True
        while more:
            message = await receive()
            raw += message.get("body", b"")
            more = message.get("more_body", False)
        body = orjson.loads(raw)
        if body["messages"][0]["content"] == STALL:
            self.stalled += 1
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        self.answered += 1
        prompt = 40 + 7 * self.answered % 30
        written = 1 + 5 * self.answered % MAX_TOKENS
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
        }
        headers = [(name.encode(), value.encode()) for name, value in JSON.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": orjson.dumps(completion(usage=usage))})


@dataclass(frozen=True)
class Outcome:
    """What one request came to; times are of the monotonic clock, `url` is the gateway's."""

    url: str
    begun_s: float
    ended_s: float
    status: int
    request_id: str
    body: Any
    retry_after: str | None

    @property
    def cost_nusd(self) -> int:
        """What the upstream's usage costs."""
        if self.status != 200:
            return 0
        usage = self.body["usage"]
        output = int(usage["completion_tokens"]) * OUTPUT_NUSD
        return int(usage["prompt_tokens"]) * INPUT_NUSD + output


@dataclass
class Process:
    """One gateway process."""

    process: asyncio.subprocess.Process
    url: str
    http: httpx2.AsyncClient

    async def ask(
        self, key: str, *, content: str = "Say hello.", conversation: str | None = None
    ) -> Outcome:
        """Send one small request."""
        headers = {"authorization": f"Bearer {key}"}
        if conversation is not None:
            headers["x-waypost-conversation-id"] = conversation
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": MAX_TOKENS,
        }
        begun_s = time.monotonic()
        answer = await self.http.post(CHAT, json=body, headers=headers)
        return Outcome(
            self.url,
            begun_s,
            time.monotonic(),
            answer.status_code,
            answer.headers["x-request-id"],
            answer.json(),
            answer.headers.get("retry-after"),
        )

    def pause(self) -> None:
        """Freeze the process: what it has in memory stays there."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the process go on."""
        self.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End the process as the kernel does when memory is short."""
        self.process.kill()
        await self.process.wait()


@dataclass
class Gateways:
    """Gateways of one deployment, and what they share.

    Attributes:
        settings_file: Read by all of them.
        store: The counters, as one more gateway sees them.
        running: Holds what is to be ended with the deployment.
    """

    settings_file: Path
    upstream: MeteringUpstream
    engine: Engine
    store: RedisStore
    desk: BudgetDesk
    running: AsyncExitStack
    processes: list[Process] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)

    async def start(self, count: int) -> None:
        """Start `count` processes at once and wait until they serve."""
        starting = (_running(self.settings_file) for _ in range(count))
        entering = (self.running.enter_async_context(each) for each in starting)
        self.processes += await asyncio.gather(*entering)

    def key(self, name: str) -> tuple[str, str]:
        """Make a key; returns its id and itself."""
        new = KeyStore(self.engine).create_key(TEAM, name)
        return new.info.id, new.secret.get_secret_value()

    def cap(self, scope: Any, scope_id: str, amount: int) -> tuple[BudgetDefinition, Limit]:
        """Cap what a scope may spend in total."""
        definition = BudgetDefinitions(self.engine).create(
            team_id=TEAM, scope=scope, scope_id=scope_id, measure="nusd", window="total", cap=amount
        )
        limit = Limit(scope_of(TEAM, scope, scope_id), "nusd", "total", amount)
        self.limits.append(limit)
        return definition, limit

    async def standing(self, limit: Limit) -> Standing:
        """Ask Redis where a limit stands."""
        return (await self.store.standings([limit]))[0]

    async def differences(self) -> list[Any]:
        """Compare counters and journal as `waypost budgets verify` does."""
        found: list[Any] = (await self.desk.verify())["differences"]
        return found

    async def verify(self) -> str:
        """Return what `waypost budgets verify` prints."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "budgets", "verify"),
            *("--config", str(self.settings_file)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await process.communicate()
        return printed.decode()

    async def agree(self) -> bool:
        """Whether nothing is held and counters and journal are the same."""
        standings = await self.store.standings(self.limits)
        return not any(each.held for each in standings) and not await self.differences()

    def charged_nusd(self, **columns: Any) -> int:
        """Add up the journal's rows that have these values."""
        query = select(func.coalesce(func.sum(SETTLEMENTS.c.charged_nusd), 0))
        for name, value in columns.items():
            query = query.where(SETTLEMENTS.c[name] == value)
        with self.engine.connect() as connection:
            return int(connection.scalar(query) or 0)

    def outcomes(self, name: str) -> int:
        """Count the journal's rows with this outcome."""
        query = select(func.count()).where(SETTLEMENTS.c.outcome == name)
        with self.engine.connect() as connection:
            return int(connection.scalar(query) or 0)

    def journaled(self, request_ids: list[str]) -> int:
        """Count the journal's rows of these requests."""
        query = select(func.count()).where(SETTLEMENTS.c.request_id.in_(request_ids))
        with self.engine.connect() as connection:
            return int(connection.scalar(query) or 0)


async def eventually(is_so: Callable[..., Awaitable[bool]], timeout_s: float = PATIENCE_S) -> float:
    """Wait until `is_so`; returns for how many seconds.

    Raises:
        TimeoutError: It was not so in time.
    """
    begun_s = time.monotonic()
    async with asyncio.timeout(timeout_s):
        while not await is_so():  # noqa: ASYNC110 - nothing to await in another process
            await asyncio.sleep(0.02)
    return time.monotonic() - begun_s


@asynccontextmanager
async def gateways_of(
    directory: Path,
    databases: Database,
    redis: RedisServer,
    *,
    lease_s: float = 60.0,
    when_store_is_down: str = "closed",
    flush_interval_s: float = 0.02,
) -> AsyncIterator[Gateways]:
    """Lay out a deployment; the test makes keys and budgets, then starts the gateways."""
    upstream, database = MeteringUpstream(), databases.new_database()
    async with AsyncExitStack() as stack:
        upstream_url = await stack.enter_async_context(serve(upstream, lifespan="off"))
        file = directory / "waypost.toml"
        file.write_text(
            SETTINGS.format(
                data=directory / "data",
                database=database,
                upstream=upstream_url,
                redis=redis.url,
                patience_s=PATIENCE_S,
                lease_s=lease_s,
                when_store_is_down=when_store_is_down,
                flush_interval_s=flush_interval_s,
            )
        )
        engine = stack.enter_context(closing(create_database_engine(database)))
        ensure_schema(engine)
        ensure_first_key(engine)
        client = Redis.from_url(redis.url)
        stack.push_async_callback(client.aclose)
        store = RedisStore(client, **PATIENT)
        stack.push_async_callback(store.aclose)
        desk = BudgetDesk(engine, store, time.time)
        async with AsyncExitStack() as running:
            yield Gateways(file, upstream, engine, store, desk, running)


@asynccontextmanager
async def _running(file: Path) -> AsyncIterator[Process]:
    async with start(file) as serving:
        url = await serving.started()
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(
            base_url=url, timeout=PATIENCE_S, trust_env=False, limits=limits
        ) as http:
            yield Process(serving.process, url, http)
