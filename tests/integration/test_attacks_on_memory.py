"""Bodies that nobody may send are not read."""

import asyncio
from urllib.parse import urlsplit

import pytest

from tests.fakes.gateway import RunningGateway
from tests.fakes.patience import PATIENCE_S

pytestmark = pytest.mark.asyncio(loop_scope="session")

HUGE = 600_000_000
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
