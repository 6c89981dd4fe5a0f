"""Told to stop under load with streams open: no answer is lost, and no row of the log."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from gateway.storage.database import create_database_engine
from migrations.tables import TURNS
from tests.fakes.patience import PATIENCE_S
from tests.fakes.postgres import Postgres, running_postgres
from tests.fakes.processes import CHAT, Serving, caller, start
from tests.fakes.redis import running_redis
from tests.fakes.server import serve
from tests.fakes.turns import until
from tests.fakes.upstream import JSON, completion, event, stream_chunks

STREAMS = 12
CALLERS = 6
DRAIN_S = 5.0
"""Within it a busy machine must see that the gateway is leaving, and ask once more."""
SETTINGS = """
data_dir = "{data}"
[server]
port = 0
admin_port = 0
drain_s = {drain_s}
[database]
url = "{database}"
[providers.alpha]
base_url = "{upstream}/v1"
[models.small]
provider = "alpha"
price = {{ input_usd_per_mtok = 1.0, output_usd_per_mtok = 2.0 }}
[keys]
read_timeout_s = {patience_s}
[embedded]
enabled = false
"""
SHORT = {"model": "small", "messages": [{"role": "user", "content": "Say hello."}]}
LONG = SHORT | {"stream": True}
DONE = b"data: [DONE]\n\n"

by_any_signal = pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name
)
"""Of an orchestrator, of Ctrl-C, and of a terminal that closes."""
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@dataclass
class HeldUpstream:
    """Answers short requests at once; streams stop halfway until `released` is set."""

    released: asyncio.Event = field(default_factory=asyncio.Event)
    held: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raw = b""
        while True:
            message = await receive()
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        if b'"stream":true' in raw.replace(b" ", b""):
            await self._stream(send)
        else:
            headers = [(name.encode(), value.encode()) for name, value in JSON.items()]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": event(completion())[6:-2]})

    async def _stream(self, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        first, *rest = stream_chunks("Hello!")
        await send({"type": "http.response.body", "body": first, "more_body": True})
        self.held += 1
        await self.released.wait()
        for chunk in rest:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@dataclass
class Balancer:
    """Callers that stop coming once the gateway says it is not ready, as behind a balancer."""

    http: httpx2.AsyncClient
    answered: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    not_ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def probe(self) -> None:
        """Ask whether the gateway wants requests, until it does not."""
        while (await self.http.get("/ready")).status_code == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        self.not_ready.set()

    async def call(self) -> None:
        """Send short requests one after the other while the gateway is ready."""
        while not self.not_ready.is_set():
            response = await self.http.post(CHAT, json=SHORT)
            self.statuses[response.status_code] += 1
            self.answered.append(response.headers["x-request-id"])

    async def stream(self) -> bytes:
        """Read one stream to its end."""
        async with self.http.stream("POST", CHAT, json=LONG) as response:
            self.statuses[response.status_code] += 1
            self.answered.append(response.headers["x-request-id"])
            return await response.aread()


@pytest.fixture
async def upstream() -> HeldUpstream:
    return HeldUpstream()


@pytest.fixture
async def settings_file(tmp_path: Path, upstream: HeldUpstream, database_url: str):
    async with serve(upstream, lifespan="off") as url:
        file = tmp_path / "waypost.toml"
        text = SETTINGS.format(
            data=tmp_path / "data",
            database=database_url,
            upstream=url,
            drain_s=DRAIN_S,
            patience_s=PATIENCE_S,
        )
        file.write_text(text)
        yield file


@pytest.fixture
def several_workers(settings_file: Path) -> Iterator[Path]:
    """The same settings with two workers, which count budgets in one Redis."""
    text = settings_file.read_text().replace("[server]\n", "[server]\nworkers = 2\n")
    with running_redis() as redis:
        budgets = f'store = "redis"\nredis_url = "{redis.url}"\nstore_timeout_s = {PATIENCE_S}\n'
        settings_file.write_text(f"{text}[budgets]\n{budgets}")
        yield settings_file


@asynccontextmanager
async def calling(settings_file: Path) -> AsyncIterator[tuple[Serving, httpx2.AsyncClient]]:
    """Start a gateway and a caller that has its first key."""
    async with start(settings_file) as gateway:
        url = await gateway.started()
        assert gateway.key is not None
        async with caller(url, gateway.key) as http:
            yield gateway, http


def logged(url: str) -> dict[str, str | None]:
    """Read the log's rows as another process sees them: request id and error."""
    engine = create_database_engine(url)
    try:
        with engine.connect() as connection:
            return {row.request_id: row.error for row in connection.execute(select(TURNS))}
    finally:
        engine.dispose()


def tell(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Send a signal to a process, and one that a terminal sends to its children as well."""
    pids = [str(process.pid)]
    if number is not signal.SIGTERM:
        pids += Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in pids:
        os.kill(int(pid), number)


async def load(
    gateway: Serving,
    upstream: HeldUpstream,
    balancer: Balancer,
    number: signal.Signals = signal.SIGTERM,
) -> tuple[list[bytes], int]:
    """Stop a gateway in the middle of everything; returns its streams and its exit status."""
    async with asyncio.TaskGroup() as tasks:
        streams = [tasks.create_task(balancer.stream()) for _ in range(STREAMS)]
        for _ in range(CALLERS):
            tasks.create_task(balancer.call())
        tasks.create_task(balancer.probe())
        await until(lambda: upstream.held == STREAMS and len(balancer.answered) > 2 * STREAMS)
        tell(gateway.process, number)
        await balancer.not_ready.wait()
        await refused(balancer.http.base_url)
        upstream.released.set()
        status = await gateway.ended()
    return [stream.result() for stream in streams], status


async def refused(address: httpx2.URL) -> None:
    """Wait until a new connection is refused."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection(address.host, address.port)
            except OSError:
                return
            writer.close()
            await asyncio.sleep(0.02)


@by_any_signal
async def test_no_answer_and_no_row_is_lost_when_told_to_stop_under_load(
    settings_file: Path, upstream: HeldUpstream, database_url: str, number: signal.Signals
):
    async with calling(settings_file) as (gateway, http):
        balancer = Balancer(http)
        streams, status = await load(gateway, upstream, balancer, number)

    assert status == 0
    assert set(balancer.statuses) == {200}
    assert all(stream.endswith(DONE) for stream in streams)
    rows = logged(database_url)
    assert set(rows) == set(balancer.answered)
    assert set(rows.values()) == {None}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@by_any_signal
async def test_nor_is_any_with_several_workers(
    several_workers: Path, upstream: HeldUpstream, database_url: str, number: signal.Signals
):
    async with calling(several_workers) as (gateway, http):
        balancer = Balancer(http)
        streams, status = await load(gateway, upstream, balancer, number)

    assert status == 0
    assert set(balancer.statuses) == {200}
    assert all(stream.endswith(DONE) for stream in streams)
    assert set(logged(database_url)) == set(balancer.answered)


@on_sqlite
async def test_a_gateway_told_to_stop_still_answers_and_closes_the_connection(
    settings_file: Path, upstream: HeldUpstream
):
    async with calling(settings_file) as (gateway, http):
        before = await http.post(CHAT, json=SHORT)
        gateway.process.send_signal(signal.SIGTERM)
        await Balancer(http).probe()
        during = await http.post(CHAT, json=SHORT)
        status = await gateway.ended()

    assert "connection" not in before.headers
    assert during.status_code == 200
    assert during.headers["connection"] == "close"
    assert status == 0


@on_sqlite
async def test_the_metrics_can_be_read_until_the_last_answer_is_out(
    settings_file: Path, upstream: HeldUpstream
):
    async with calling(settings_file) as (gateway, http):
        balancer = Balancer(http)
        stream = asyncio.create_task(balancer.stream())
        await until(lambda: upstream.held == 1)
        gateway.process.send_signal(signal.SIGTERM)
        await refused(balancer.http.base_url)
        async with httpx2.AsyncClient(timeout=PATIENCE_S, trust_env=False) as prometheus:
            scraped = await prometheus.get(f"{gateway.admin_url}/metrics")
        upstream.released.set()
        await stream
        status = await gateway.ended()

    assert "waypost_log_queue_depth" in scraped.text
    assert status == 0


FROZEN_S = 60.0
"""Closing waits 10 s for the log and 5 s for budgets; a busy machine needs more."""


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A server of its own, to freeze."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def on_postgres(settings_file: Path, database_url: str, postgres: Postgres) -> str:
    """Have the settings name that server's database; return its URL."""
    url = postgres.new_database()
    text = settings_file.read_text().replace(database_url, url)
    settings_file.write_text(text.replace(f"drain_s = {DRAIN_S}", "shutdown_grace_s = 1"))
    return url


@on_sqlite
async def test_a_frozen_postgres_does_not_hold_up_the_end_and_its_rows_are_in_the_spool(
    settings_file: Path, postgres: Postgres, on_postgres: str
):
    async with calling(settings_file) as (gateway, http):
        answers = [await http.post(CHAT, json=SHORT)]
        postgres.pause()
        try:
            answers += [await http.post(CHAT, json=SHORT) for _ in range(20)]
            async with asyncio.timeout(FROZEN_S):
                status = await gateway.end(signal.SIGTERM)
        finally:
            postgres.resume()
    written = logged(on_postgres)
    async with start(settings_file) as following:
        await following.started()
        await until(lambda: len(logged(on_postgres)) == len(answers))

    assert status == 0
    assert {answer.status_code for answer in answers} == {200}
    assert set(written) <= {answers[0].headers["x-request-id"]}
