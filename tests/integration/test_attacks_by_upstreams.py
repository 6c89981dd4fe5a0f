"""Everything that a hostile or broken upstream may send, byte by byte; the gateway serves on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.fakes.gateway import PRICE, RunningGateway, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.upstream import chunk, completion, stream_chunks

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("attacks by upstreams"),  # one gateway
]

CHAT = "/v1/chat/completions"
HELLO = {"model": "raw", "messages": [{"role": "user", "content": "Say hello."}]}
SILENCE_S = 1.0
"""How long the gateway waits for this upstream."""
HANG = b"hang"
MB = b" " * 1_000_000
OK = b"HTTP/1.1 200 OK\r\n"
JSON = OK + b"content-type: application/json\r\n"
EVENTS = OK + b"content-type: text/event-stream\r\n"
CLOSE = b"connection: close\r\n\r\n"
WHOLE = orjson.dumps(completion())
LENGTH = b"content-length: %d\r\n\r\n"
PAGE = b"<html><script>alert(1)</script>%b</html>" % (b"x" * 5_000)
SILENT = {"hangs", "hangs after its head"}
Script = Callable[[], Iterable[bytes]]


class RawUpstream:
    """Reads one request per connection, writes the pieces of its script, and closes."""

    def __init__(self) -> None:
        self.script: Script = lambda: ()
        self.requests = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(size)
            self.requests += 1
            for piece in self.script():
                if piece is HANG:
                    await reader.read()
                    break
                writer.write(piece)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def attacked(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[RunningGateway, RawUpstream]]:
    upstream = RawUpstream()
    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    waits = {"first_byte_timeout_s": SILENCE_S, "idle_timeout_s": SILENCE_S, "deadline_s": 2.0}
    common = {"max_retries": 0, "breaker_failures": 1000, **waits}
    providers = {
        "raw": {"base_url": f"http://127.0.0.1:{port}/v1", **common},
        "nowhere": {"base_url": "http://gateway.invalid/v1", **common},
    }
    models = {name: {"provider": name, "price": PRICE} for name in providers}
    folder = tmp_path_factory.mktemp("attacked")
    async with (
        server,
        running_gateway(folder, providers=providers, models=models, profiles={}) as running,
    ):
        yield running, upstream


@pytest.fixture
def gateway(attacked: tuple[RunningGateway, RawUpstream]) -> RunningGateway:
    return attacked[0]


@pytest.fixture
def upstream(attacked: tuple[RunningGateway, RawUpstream]) -> RawUpstream:
    """The upstream, which has seen nothing."""
    attacked[1].requests = 0
    return attacked[1]


async def ask(gateway: RunningGateway, **fields: Any) -> tuple[int, bytes, str]:
    """Ask once; return status, body and the id of the request."""
    async with gateway.caller() as http, asyncio.timeout(PATIENCE_S):
        answer = await http.post(CHAT, json=HELLO | fields)
    return answer.status_code, answer.content, answer.headers.get("x-request-id", "")


async def assert_serves_on(gateway: RunningGateway, upstream: RawUpstream) -> None:
    upstream.script = lambda: (JSON, LENGTH % len(WHOLE), WHOLE)
    assert (await ask(gateway))[0] == 200


FAULTS: dict[str, Script] = {
    "hangs": lambda: (HANG,),
    "hangs after its head": lambda: (JSON, LENGTH % 100, HANG),
    "closes at once": lambda: (),
    "garbage": lambda: (b"\x00\xff\xfe garbage\r\n\r\n",),
    "another protocol": lambda: (b"SSH-2.0-OpenSSH_9.6\r\n",),
    "endless head": lambda: (OK, *(b"x: " + b"y" * 60_000 + b"\r\n" for _ in range(3))),
    "page": lambda: (JSON, LENGTH % len(PAGE), PAGE),
    "page that says it is an error": lambda: (b"HTTP/1.1 500 No\r\n", LENGTH % len(PAGE), PAGE),
    "half a body": lambda: (JSON, LENGTH % len(WHOLE), WHOLE[:-9]),
    "half a chunk": lambda: (JSON, b"transfer-encoding: chunked\r\n\r\nff\r\n{"),
    "two lengths": lambda: (JSON, b"content-length: 9\r\n", LENGTH % 2, b"{}"),
    "no content": lambda: (b"HTTP/1.1 204 No Content\r\n\r\n",),
    "other protocol": lambda: (
        b"HTTP/1.1 101 Switch\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ),
    "endless early hints": lambda: (
        *(b"HTTP/1.1 103 Early Hints\r\n\r\n" for _ in range(50)),
        HANG,
    ),
    "status that is none": lambda: (b"HTTP/1.1 999 No\r\ncontent-length: 0\r\n\r\n",),
    "compressed bomb": lambda: (
        JSON,
        b"content-encoding: gzip\r\n",
        LENGTH % 4,
        b"\x1f\x8b\x08\x00",
    ),
    "body of 80 MB": lambda: (JSON, CLOSE, *(MB for _ in range(80))),
    "null": lambda: (JSON, LENGTH % 4, b"null"),
    "number beyond all": lambda: (JSON, LENGTH % 5, b"1e999"),
    "nested deep": lambda: (JSON, CLOSE, b'{"choices":' + b"[" * 900 + b"]" * 900 + b"}"),
}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_broken_answer_is_the_providers_error_in_openais_shape(
    gateway, upstream, fault, is_stream
):
    upstream.script = FAULTS[fault]

    status, body, request_id = await ask(gateway, stream=is_stream)

    assert status == 504 if fault in SILENT else status in {502, 503, 504}
    assert set(orjson.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert b"<script>" not in body
    assert (await gateway.turn(request_id)).error is not None
    assert upstream.requests == 1
    await assert_serves_on(gateway, upstream)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(gateway, upstream, status):
    here = b"location: /v1/elsewhere\r\ncontent-length: 0\r\n\r\n"
    upstream.script = lambda: (b"HTTP/1.1 %d Go\r\n" % status, here)

    assert (await ask(gateway))[0] in {502, 503}
    assert upstream.requests == 1


async def test_an_answer_that_drips_is_put_together(gateway, upstream):
    drops = [WHOLE[n : n + 1] for n in range(len(WHOLE))]
    upstream.script = lambda: (JSON, LENGTH % len(WHOLE), *drops)

    status, body, _ = await ask(gateway)

    assert status == 200
    assert orjson.loads(body)["choices"] == completion()["choices"]


async def test_a_stream_of_100_000_events_passes_whole(gateway, upstream):
    event = chunk({"content": "x"})
    end = b"".join(stream_chunks("")[1:])
    upstream.script = lambda: (EVENTS, CLOSE, *(event * 1_000 for _ in range(100)), end)

    status, body, request_id = await ask(gateway, stream=True)

    assert status == 200
    assert body.count(b'"content":"x"') == 100_000
    assert body.endswith(b"data: [DONE]\n\n")
    assert (await gateway.turn(request_id)).completion_tokens >= 3


@pytest.mark.parametrize("last", [b"", HANG, b"\x00\xff", b"data: {", b"event: error\ndata: x\n\n"])
async def test_a_stream_that_is_killed_ends_in_an_error_and_is_charged(gateway, upstream, last):
    begun = stream_chunks("Hello!")[:4]
    upstream.script = lambda: (EVENTS, CLOSE, *begun, last)

    status, body, request_id = await ask(gateway, stream=True)

    assert status == 200
    assert b"error" in body
    assert b"[DONE]" not in body
    row = await gateway.turn(request_id)
    assert row.error is not None
    assert row.cost_nusd > 0
    await assert_serves_on(gateway, upstream)


async def test_a_name_that_cannot_be_resolved_is_unavailable(gateway):
    status, body, _ = await ask(gateway, model="nowhere")

    assert status == 503
    assert b"gateway.invalid" not in body


USAGES: list[Any] = [None, {}, [], "9", True, {"prompt_tokens": None}, {"prompt_tokens": True}]
USAGES += [{"prompt_tokens": "9", "completion_tokens": 1.5}, {"completion_tokens": -3}]
USAGES += [{"prompt_tokens": [9], "prompt_tokens_details": "x", "completion_tokens_details": 3}]


@pytest.mark.parametrize("usage", USAGES)
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_usage_of_an_odd_form_is_counted_by_the_gateway(
    gateway, upstream, usage, is_stream
):
    whole = orjson.dumps(completion(usage=usage))
    events = [chunk({"content": "Hello!"}), chunk({}, "stop"), chunk({}, choices=[], usage=usage)]
    answer = (EVENTS, CLOSE, *events) if is_stream else (JSON, LENGTH % len(whole), whole)
    upstream.script = lambda: answer

    status, _, request_id = await ask(gateway, stream=is_stream)

    row = await gateway.turn(request_id)
    assert (status, row.error) == (200, None)
    assert row.prompt_tokens > 0
    assert row.completion_tokens > 0
    assert row.cost_nusd > 0
    assert row.is_estimated
