"""Several worker processes behind one port: what they share, and what becomes of one that dies."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import func, select

from gateway.storage.database import create_database_engine
from migrations.tables import TURNS
from tests.fakes.gateway import SteppedUpstream, Upstreams
from tests.fakes.patience import PATIENCE_S
from tests.fakes.processes import CHAT, Serving, caller, start, stream_across_the_end
from tests.fakes.redis import RedisServer, running_redis
from tests.fakes.scrape import Scrape
from tests.fakes.server import serve
from tests.fakes.turns import until
from tests.fakes.upstream import completion, json_answer

WORKERS = 2
BODY = {"model": "small", "messages": [{"role": "user", "content": "Say hello."}]}
REQUESTS = 40
SETTINGS = """
data_dir = "{data}"
[server]
port = 0
admin_port = 0
workers = 2
[providers.alpha]
base_url = "{upstream}/alpha/v1"
[models.small]
provider = "alpha"
price = {{ input_usd_per_mtok = 1.0, output_usd_per_mtok = 2.0 }}
[embedded]
enabled = false
[keys]
read_timeout_s = {patience_s}
[evaluation_log]
flush_interval_s = 0.01
[budgets]
store = "redis"
redis_url = "{redis}"
store_timeout_s = {patience_s}
"""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
async def upstreams() -> Upstreams:
    made = Upstreams()
    made.by_name["alpha"].answers = [json_answer(completion())]
    return made


@pytest.fixture
async def settings_file(tmp_path: Path, upstreams, redis) -> AsyncIterator[Path]:
    async with serve(upstreams, lifespan="off") as url:
        file = tmp_path / "waypost.toml"
        text = SETTINGS.format(
            data=tmp_path / "data", upstream=url, redis=redis.url, patience_s=PATIENCE_S
        )
        file.write_text(text)
        yield file


async def ask(url: str, serving: Serving, requests: int) -> set[int]:
    """Send requests, each over a connection of its own; returns the statuses."""
    assert serving.key is not None
    statuses = set()
    for _ in range(requests):
        async with caller(url, serving.key) as http:
            statuses.add((await http.post(CHAT, json=BODY)).status_code)
    return statuses


async def metrics_of(serving: Serving) -> Scrape:
    async with httpx2.AsyncClient(timeout=PATIENCE_S, trust_env=False) as http:
        return Scrape.parse((await http.get(f"{serving.admin_url}/metrics")).text)


async def metrics_of_all(serving: Serving) -> Scrape:
    """Scrape until no worker was too slow for the one that asked it."""
    while (page := await metrics_of(serving)).sum("waypost_worker_up") < WORKERS:
        pass
    return page


def requests_by_worker(page: Scrape) -> list[float]:
    return [
        page.sum("waypost_requests_total", endpoint="chat", worker=str(number))
        for number in range(WORKERS)
    ]


def children_of(pid: int) -> set[int]:
    """Return the worker processes; the interpreter's own tracker of resources is none."""
    tasks = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    lines = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in tasks}
    return {child for child, line in lines.items() if b"spawn_main" in line}


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_any_worker_shows_the_metrics_of_all(settings_file):
    async with start(settings_file) as serving:
        url = await serving.started()
        requests = 0
        async with asyncio.timeout(PATIENCE_S):
            while min(requests_by_worker(await metrics_of_all(serving))) == 0:
                assert await ask(url, serving, REQUESTS) == {200}
                requests += REQUESTS
            seen = [await metrics_of_all(serving) for _ in range(3)]
        assert await serving.end(signal.SIGTERM) == 0

    for page in seen:
        by_worker = requests_by_worker(page)
        assert sum(by_worker) == page.sum("waypost_requests_total") == requests
        assert min(by_worker) > 0
        assert page.sum("waypost_worker_up") == WORKERS
    assert "  workers: 2\n" in serving.printed


async def test_a_worker_that_is_killed_is_replaced_and_the_others_serve_on(settings_file):
    async with start(settings_file) as serving:
        url = await serving.started()
        before = children_of(serving.process.pid)
        os.kill(min(before), signal.SIGKILL)
        statuses = await ask(url, serving, 10)
        async with asyncio.timeout(PATIENCE_S):
            while (await metrics_of(serving)).sum("waypost_worker_up") < WORKERS:
                statuses |= await ask(url, serving, 1)
        after = children_of(serving.process.pid)
        statuses |= await ask(url, serving, 10)
        assert await serving.end(signal.SIGTERM) == 0

    assert statuses == {200}
    assert len(before) == len(after) == WORKERS
    assert len(before & after) == WORKERS - 1


async def test_streams_under_way_end_and_every_row_is_written(settings_file, upstreams):
    upstream = upstreams.by_name["alpha"] = SteppedUpstream()
    async with start(settings_file) as serving:
        received, status = await stream_across_the_end(serving, upstream, BODY)

    assert received.endswith(b"data: [DONE]\n\n")
    assert status == 0
    engine = create_database_engine(f"sqlite:///{settings_file.parent / 'data' / 'waypost.db'}")
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(TURNS)) == 1
    engine.dispose()


async def test_workers_leave_with_a_parent_that_is_killed(settings_file):
    async with start(settings_file) as serving:
        await serving.started()
        workers = children_of(serving.process.pid)
        serving.process.kill()
        await serving.process.wait()
        await until(lambda: not any(map(is_running, workers)))

    assert len(workers) == WORKERS


async def test_workers_whose_settings_cannot_serve_end_with_the_reason(settings_file):
    text = settings_file.read_text()
    settings_file.write_text(
        text.replace("[evaluation_log]", '[routing]\ndefault_model = "x"\n\n[evaluation_log]')
    )
    async with start(settings_file) as serving:
        output, _ = await serving.process.communicate()
        logged = serving.logged

    assert serving.process.returncode == 2
    assert "routing.default_model" in logged
    assert b"Waypost serves" not in output
