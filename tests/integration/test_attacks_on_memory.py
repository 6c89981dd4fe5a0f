"""Bodies that nobody may send are not read, and not too many are held at the same time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx2
import pytest
import pytest_asyncio

from gateway.access.keys import KeyStore
from gateway.settings.server import MEMORY_PER_BODY_BYTE
from tests.fakes.gateway import SMALL, RunningGateway, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.turns import until
from tests.fakes.upstream import completion, json_answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

HUGE = 600_000_000
HALF_SENT = 900_000
PATHS = ("/v1/chat/completions", "/v1/feedback", "/v1/route", "/v1/embeddings", "/health")


async def status_before_the_body(gateway: RunningGateway, path: str, *headers: str) -> int:
    """Send the head of a request alone; return the status of what comes back."""
    place = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = (f"POST {path} HTTP/1.1", f"host: {place.netloc}", "content-type: application/json")
    writer.write("\r\n".join((*head, *headers, "", "")).encode())
    async with asyncio.timeout(PATIENCE_S):
        line = await reader.readline()
    writer.close()
    return int(line.split()[1])


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_key_no_body_is_waited_for(gateway, path) -> None:
    assert await status_before_the_body(gateway, path, f"content-length: {HUGE}") == 401
    assert await status_before_the_body(gateway, path, "transfer-encoding: chunked") == 401


@pytest.mark.parametrize("path", PATHS)
async def test_with_a_key_a_body_that_says_it_is_too_long_is_not_waited_for(gateway, path) -> None:
    key = f"authorization: Bearer {gateway.key}"
    assert await status_before_the_body(gateway, path, key, f"content-length: {HUGE}") == 413


@pytest.mark.parametrize("path", PATHS[:3])
async def test_a_body_that_turns_out_too_long_is_refused(gateway, http, path) -> None:
    async def chunks():
        for _ in range(40):
            yield b" " * 50_000

    headers = {"content-type": "application/json"}
    answer = await http.post(path, content=chunks(), headers=headers)
    assert answer.status_code == 413


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small_gateway(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[RunningGateway]:
    """A gateway with memory for two bodies of a key, and for three in all."""
    least = 4 * 1_000_000
    limits = {"body_memory_bytes": 3 * least, "body_memory_bytes_per_key": 2 * least}
    server = {"port": 0, "admin_port": 0, "max_body_bytes": 1_000_000, **limits}
    path = tmp_path_factory.mktemp("small")
    async with running_gateway(path, server=server) as running:
        yield running


@asynccontextmanager
async def half_sent(
    gateway: RunningGateway, path: str, key: str, count: int, *, beside: int = 0
) -> AsyncIterator[None]:
    """Have so many requests under way whose long bodies do not end, `beside` those that are."""
    place = urlsplit(gateway.url)
    memory = gateway.app.public.turns[PATHS[0]].memory
    writers = []
    for _ in range(count):
        _, writer = await asyncio.open_connection(place.hostname, place.port)
        head = (f"POST {path} HTTP/1.1", "host: x", f"authorization: Bearer {key}")
        writer.write("\r\n".join((*head, f"content-length: {HALF_SENT}", "", "{")).encode())
        writers.append(writer)
    await until(lambda: memory.held == (beside + count) * HALF_SENT * MEMORY_PER_BODY_BYTE)
    yield
    for writer in writers:
        writer.close()


async def send_a_long_body(gateway: RunningGateway, path: str, key: str) -> httpx2.Response:
    async with gateway.caller(key) as http:
        headers = {"content-type": "application/json"}
        return await http.post(path, content=b" " * HALF_SENT, headers=headers)


@pytest.mark.parametrize("path", PATHS[:3])
async def test_bodies_under_way_are_limited_by_key_and_in_all(small_gateway, path) -> None:
    gateway = small_gateway
    new = KeyStore(gateway.engine).create_key("default", "other")
    other = new.secret.get_secret_value()
    async with half_sent(gateway, path, gateway.key, 2):
        refused = await send_a_long_body(gateway, path, gateway.key)
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert (await send_a_long_body(gateway, path, other)).status_code == 400
        async with half_sent(gateway, path, other, 1, beside=2):
            refused = await send_a_long_body(gateway, path, other)
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert refused.json()["error"]["code"] == "overloaded"
    await until(lambda: gateway.app.public.turns[PATHS[0]].memory.held == 0)
    assert (await send_a_long_body(gateway, path, gateway.key)).status_code == 400


async def test_a_body_of_very_many_values_is_as_long_as_what_they_take(small_gateway) -> None:
    body = b'{"model":"small","messages":[' + b"{}," * 60_000 + b"{}]}"
    async with small_gateway.caller() as http:
        headers = {"content-type": "application/json"}
        answer = await http.post(PATHS[0], content=body, headers=headers)
    assert answer.status_code == 413


async def test_a_long_answer_of_an_upstream_counts_too(small_gateway) -> None:
    small_gateway.upstreams.reset()
    small_gateway.alpha.answers = [json_answer(completion("a" * 3_000_000))]
    asked = {"model": SMALL, "messages": [{"role": "user", "content": "Hi"}]}
    async with small_gateway.caller() as http:
        assert (await http.post(PATHS[0], json=asked)).status_code == 429
        small_gateway.alpha.answers = [json_answer(completion("a" * 1_000_000))]
        assert (await http.post(PATHS[0], json=asked)).status_code == 200
