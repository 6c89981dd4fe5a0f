"""Connections that cost much and ask little, tried on a gateway process from outside."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import orjson
import pytest
import pytest_asyncio

from tests.fakes.gateway import SteppedUpstream, Upstreams
from tests.fakes.patience import PATIENCE_S
from tests.fakes.processes import Serving, caller, start
from tests.fakes.scrape import Scrape
from tests.fakes.server import serve
from tests.fakes.turns import until
from tests.fakes.upstream import Answer, chunk, completion, json_answer

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("attacks on connections"),  # one gateway
]

CHAT = "/v1/chat/completions"
ASKED = {"model": "small", "messages": [{"role": "user", "content": "Say hello."}]}
HALF_A_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthoriz"
BLANK_LINES = b"\r\n"
SECONDS_OF_TRYING = 30
SETTINGS = """
data_dir = "{data}"
[server]
port = 0
admin_port = 0
shutdown_grace_s = 1
{server}
[embedded]
enabled = false
[keys]
read_timeout_s = 120
[routing]
encoder = "static"
[providers.alpha]
base_url = "{upstream}/alpha/v1"
max_retries = 0
max_concurrency = 2
connect_timeout_s = 120
queue_timeout_s = 120
[models.small]
provider = "alpha"
price = {{ input_usd_per_mtok = 1.0, output_usd_per_mtok = 2.0 }}
"""


@dataclass(frozen=True)
class Gateway:
    """A gateway process and what it calls."""

    serving: Serving
    url: str
    upstreams: Upstreams
    key: str

    def address(self, side: str = "public") -> tuple[str, int]:
        """Where a side of it listens."""
        place = urlsplit(self.url if side == "public" else self.serving.admin_url)
        assert place.hostname is not None
        assert place.port is not None
        return place.hostname, place.port

    def head(self, *lines: str) -> bytes:
        """Write the head of a chat request that its key sends."""
        key = f"authorization: Bearer {self.key}"
        return "\r\n".join((f"POST {CHAT} HTTP/1.1", "host: x", key, *lines, "", "")).encode()


@asynccontextmanager
async def gateway_with(
    path: Path, server: str, max_files: int | None = None
) -> AsyncIterator[Gateway]:
    """Start a process with lines added to the table `server`."""
    upstreams = Upstreams()
    upstreams.by_name["alpha"].answers = [json_answer(completion())]
    async with serve(upstreams, lifespan="off") as upstream_url:
        file = path / "waypost.toml"
        file.write_text(SETTINGS.format(data=path / "data", upstream=upstream_url, server=server))
        async with start(file, max_files) as serving:
            url = await serving.started()
            assert serving.key is not None
            yield Gateway(serving, url, upstreams, serving.key)
            await serving.end(signal.SIGTERM)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hurried(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway that waits for nobody."""
    limits = (
        "header_timeout_s = 1\nbody_timeout_s = 2\nidle_timeout_s = 2\nwrite_timeout_s = 2\n"
        "stream_deadline_s = 3\n"
    )
    async with gateway_with(tmp_path_factory.mktemp("hurried"), limits) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ordinary(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway with the limits it comes with, one of them aside."""
    limits = "max_connections_per_address = 40\nbody_timeout_s = 10\n"
    async with gateway_with(tmp_path_factory.mktemp("ordinary"), limits) as running:
        yield running


async def connect(
    gateway: Gateway, first: bytes = b"", side: str = "public", source: str = "127.0.0.1"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = gateway.address(side)
    reader, writer = await asyncio.open_connection(host, port, local_addr=(source, 0))
    writer.write(first)
    return reader, writer


async def is_hung_up(reader: asyncio.StreamReader) -> bytes:
    """Read until the other side hangs up; return what it said."""
    said = b""
    async with asyncio.timeout(PATIENCE_S):
        try:
            while data := await reader.read(65536):
                said += data
        except ConnectionError:
            pass
    return said


async def pushed(gateway: Gateway, pieces: Iterable[bytes], side: str, pause_s: float) -> int:
    """Send pieces until the gateway hangs up; return how many bytes were sent by then."""
    reader, writer = await connect(gateway, side=side)
    hearing = asyncio.create_task(is_hung_up(reader))
    sent = 0
    for piece in pieces:
        if hearing.done():
            break
        try:
            writer.write(piece)
            await writer.drain()
        except ConnectionError:
            break
        sent += len(piece)
        await asyncio.sleep(pause_s)
    hearing.cancel()
    writer.close()
    return sent


async def is_served(gateway: Gateway) -> bool:
    async with caller(gateway.url, gateway.key) as http:
        return (await http.post(CHAT, json=ASKED)).status_code == 200


def endless(begin: bytes, piece: bytes, count: int) -> Iterable[bytes]:
    yield begin
    for _ in range(count):
        yield piece


@pytest.mark.parametrize("side", ["public", "admin"])
@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET /", b"a" * 50_000),
        (b"GET / HTTP/1.1\r\nx: ", b"a" * 50_000),
        (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 8000),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 8000),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: ", b"a" * 50_000),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;", b"a" * 50_000),
        (b"", b"\r\n" * 25_000),
    ],
    ids=["path", "header", "headers", "trailers", "trailer", "chunk extension", "blank lines"],
)
async def test_what_never_ends_is_not_read_on(ordinary, side, begin, piece) -> None:
    pieces = endless(begin, piece, count=2000)
    assert await pushed(ordinary, pieces, side, pause_s=0) < 20_000_000
    assert await is_served(ordinary)


@pytest.mark.parametrize("headers", [b"x: %s\r\n" % (b"a" * 70_000), b"a: b\r\n" * 300])
async def test_headers_that_are_too_large_or_too_many_get_status_431(ordinary, headers) -> None:
    reader, writer = await connect(ordinary, b"GET /health HTTP/1.1\r\n%s\r\n" % headers)
    assert (await is_hung_up(reader)).startswith(b"HTTP/1.1 431 ")
    writer.close()


@pytest.mark.parametrize("is_stream", [True, False])
async def test_headers_without_end_behind_a_running_request_are_no_part_of_its_answer(
    ordinary, is_stream
) -> None:
    slow = ordinary.upstreams.by_name["alpha"] = SteppedUpstream()
    body = orjson.dumps({**ASKED, "stream": is_stream})
    reader, writer = await connect(ordinary, ordinary.head(f"content-length: {len(body)}") + body)
    await asyncio.wait_for(slow.has_begun.wait(), PATIENCE_S)
    slow.send(chunk({"content": "Hello"}))
    begun = await asyncio.wait_for(reader.readuntil(b"Hello"), PATIENCE_S) if is_stream else b""
    writer.write(b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000)

    said = begun + await is_hung_up(reader)
    writer.close()

    assert b"431" not in said
    await asyncio.wait_for(slow.client_has_left.wait(), PATIENCE_S) if is_stream else slow.end()
    ordinary.upstreams.reset()
    ordinary.upstreams.by_name["alpha"].answers = [json_answer(completion())]


async def test_headers_within_the_limits_are_read(ordinary) -> None:
    async with caller(ordinary.url, ordinary.key) as http:
        headers = {f"x-{number}": "a" * 300 for number in range(150)}
        assert (await http.post(CHAT, json=ASKED, headers=headers)).status_code == 200


@pytest.mark.parametrize("side", ["public", "admin"])
async def test_who_keeps_the_gateway_waiting_is_hung_up_on(hurried, side) -> None:
    half_a_body = hurried.head("content-length: 1000") + b'{"model'
    waiting = [await connect(hurried, first, side) for first in (b"", BLANK_LINES, HALF_A_HEAD)]
    waiting += [await connect(hurried, half_a_body) for _ in range(20)]
    said = await asyncio.gather(*(is_hung_up(reader) for reader, _ in waiting))
    assert [each[:13].decode() for each in said[:3]] == ["", "", "HTTP/1.1 408 "]
    assert all(each.startswith(b"HTTP/1.1 408 ") for each in said[3:])
    assert await is_served(hurried)
    for _, writer in waiting:
        writer.close()


async def test_a_connection_that_was_used_is_not_kept_open_by_blank_lines(hurried) -> None:
    begin = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    pieces = endless(begin, BLANK_LINES, count=round(SECONDS_OF_TRYING / 0.1))
    assert await pushed(hurried, pieces, "public", 0.1) < len(begin) + SECONDS_OF_TRYING * 20


@pytest.mark.parametrize("side", ["public", "admin"])
async def test_a_head_that_drips_is_given_up(hurried, side) -> None:
    pieces = endless(HALF_A_HEAD, b"a", count=round(SECONDS_OF_TRYING / 0.1))
    assert await pushed(hurried, pieces, side, 0.1) < len(HALF_A_HEAD) + SECONDS_OF_TRYING * 10


@pytest.mark.parametrize("how", ["content-length: 1000000", "transfer-encoding: chunked"])
async def test_a_body_that_drips_is_given_up(hurried, how) -> None:
    begin = hurried.head(how)
    pieces = endless(begin, b"1\r\n1\r\n", count=round(SECONDS_OF_TRYING / 0.1))
    assert await pushed(hurried, pieces, "public", 0.1) < len(begin) + SECONDS_OF_TRYING * 60


async def test_a_body_that_nobody_wants_is_not_read_for_ever(hurried) -> None:
    begin = b"POST /v1/feedback HTTP/1.1\r\nhost: x\r\ncontent-length: 600000000\r\n\r\n"
    pieces = endless(begin, b"a" * 1000, count=round(SECONDS_OF_TRYING / 0.1))
    sent = await pushed(hurried, pieces, "public", 0.1)
    assert sent < len(begin) + SECONDS_OF_TRYING * 10_000


async def test_one_address_cannot_take_all_connections(ordinary) -> None:
    greedy = [await connect(ordinary, source="127.0.0.2") for _ in range(41)]
    assert (await is_hung_up(greedy[-1][0])).startswith(b"HTTP/1.1 429 ")
    assert await is_served(ordinary)
    for _, writer in greedy:
        writer.close()


async def test_newcomers_get_the_place_of_who_has_been_idle_longest(tmp_path) -> None:
    async with gateway_with(tmp_path, "max_connections = 8") as gateway:
        idle = [await connect(gateway, first) for first in (b"", HALF_A_HEAD) * 15]
        assert await is_served(gateway)
        assert await is_hung_up(idle[0][0]) == b""
        for _, writer in idle:
            writer.close()


async def test_where_nobody_is_idle_newcomers_are_told_to_come_back(tmp_path) -> None:
    async with gateway_with(tmp_path, "max_connections = 2") as gateway:
        alpha = gateway.upstreams.by_name["alpha"]
        alpha.answers = [Answer(stalls_at_once=True)]
        body = orjson.dumps(ASKED)
        asked = gateway.head(f"content-length: {len(body)}") + body
        busy = [await connect(gateway, asked) for _ in range(2)]
        await until(lambda: len(alpha.requests) == 2)
        reader, writer = await connect(gateway, asked)
        said = await is_hung_up(reader)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in said
        for each in (writer, *(writer for _, writer in busy)):
            each.close()


async def test_with_few_descriptors_newcomers_are_served(tmp_path) -> None:
    async with gateway_with(tmp_path, "", max_files=128) as gateway:
        idle = [
            await connect(gateway, side=side) for side in ("public", "admin") for _ in range(200)
        ]
        for _ in range(3):
            assert await is_served(gateway)
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE_S) as http:
            assert (await http.get(f"{gateway.serving.admin_url}/health")).status_code == 200
        for _, writer in idle:
            writer.close()


async def test_readers_that_take_nothing_do_not_keep_a_providers_places(hurried) -> None:
    alpha = hurried.upstreams.by_name["alpha"]
    alpha.answers = [Answer((chunk({"content": "a" * 60_000}),) * 1000)]
    body = orjson.dumps(ASKED | {"stream": True})
    asked = hurried.head(f"content-length: {len(body)}") + body
    host, port = hurried.address()
    readers, before = [], len(alpha.requests)
    for _ in range(2):
        reader = socket.create_connection((host, port))
        reader.sendall(asked)
        readers.append(reader)
    await until(lambda: len(alpha.requests) == before + 2)
    alpha.answers = [json_answer(completion())]
    assert await is_served(hurried)
    for reader in readers:
        reader.close()


async def test_an_upstream_that_drips_does_not_outlive_the_deadline(hurried) -> None:
    alpha = hurried.upstreams.by_name["alpha"]
    drops = (chunk({"content": "a"}),) * round(SECONDS_OF_TRYING / 0.1)
    alpha.answers = [Answer(drops, pause_s=0.1)]
    async with caller(hurried.url, hurried.key) as http:
        answer = await http.post(CHAT, json=ASKED | {"stream": True})
    alpha.answers = [json_answer(completion())]
    assert answer.text.count('"content":"a"') < len(drops)
    assert '"code":"provider_timeout"' in answer.text
    assert "[DONE]" not in answer.text


async def test_a_caller_that_rests_between_requests_keeps_its_connection(ordinary) -> None:
    ask = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    reader, writer = await connect(ordinary)
    for _ in range(3):
        await asyncio.sleep(1.5)
        writer.write(ask)
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            await reader.readuntil(b"}")
    writer.close()


async def test_a_reader_that_pauses_gets_its_whole_answer(ordinary) -> None:
    alpha = ordinary.upstreams.by_name["alpha"]
    alpha.answers = [Answer((*(chunk({"content": "a" * 60_000}),) * 200, b"data: [DONE]\n\n"))]
    received = 0
    async with (
        caller(ordinary.url, ordinary.key) as http,
        http.stream("POST", CHAT, json=ASKED | {"stream": True}) as response,
    ):
        async for data in response.aiter_raw():
            if received // 5_000_000 != (received + len(data)) // 5_000_000:
                await asyncio.sleep(1.5)
            received += len(data)
    alpha.answers = [json_answer(completion())]
    assert data.endswith(b"data: [DONE]\n\n")
    assert received > 200 * 60_000


async def test_a_long_body_on_a_slow_line_is_waited_for(ordinary) -> None:
    async def slowly(body: bytes) -> AsyncIterator[bytes]:
        for begin in range(0, len(body), 10_000):
            yield body[begin : begin + 10_000]
            await asyncio.sleep(0.05)

    asked: dict[str, Any] = {
        "model": "small",
        "messages": [{"role": "user", "content": "a" * 500_000}],
    }
    async with caller(ordinary.url, ordinary.key) as http:
        headers = {"content-type": "application/json"}
        answer = await http.post(CHAT, content=slowly(orjson.dumps(asked)), headers=headers)
    assert answer.status_code == 200


async def test_who_is_connected_and_who_was_turned_away_is_counted(ordinary) -> None:
    reader, writer = await connect(ordinary, 40 * ordinary.head(*(f"x{i}: y" for i in range(300))))
    assert (await is_hung_up(reader)).startswith(b"HTTP/1.1 431 ")
    writer.close()
    held = [await connect(ordinary) for _ in range(41)]
    assert (await is_hung_up(held[-1][0])).startswith(b"HTTP/1.1 429 ")
    async with caller(ordinary.serving.admin_url, "x") as http:
        seen = Scrape.parse((await http.get("/metrics")).text)
    for _, writer in held:
        writer.close()
    assert 40 <= seen.sum("waypost_connections_open", port="public") < 60
    assert seen.sum("waypost_connections_limit", port="public") > 60
    assert seen.sum("waypost_connections_refused_total", port="public", reason="address") >= 1
    # Once for a connection, however many requests it sends at once.
    assert 0 < seen.sum("waypost_connections_refused_total", port="public", reason="headers") < 20
