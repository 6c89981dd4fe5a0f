"""Malformed and ambiguous HTTP, sent byte by byte to the real process: one request, one answer."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest
import pytest_asyncio

from tests.fakes.patience import PATIENCE_S
from tests.fakes.processes import Serving, start
from tests.fakes.server import serve
from tests.fakes.upstream import ScriptedUpstream, completion, json_answer

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("attacks on http"),  # one gateway
]

CHAT = "/v1/chat/completions"
UPSTREAM_KEY = "sk-upstream-secret"
HELLO = [{"role": "user", "content": "Say hello."}]
BODY = orjson.dumps({"model": "small", "messages": HELLO})
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
SPOILED = {"set-cookie": "upstream=1", "server": "upstream", "location": "http://elsewhere/"}
SETTINGS = """
data_dir = "{data}"
[server]
port = 0
admin_port = 0
[providers.alpha]
base_url = "{upstream}/v1"
api_key = "{key}"
max_retries = 0
[models.small]
provider = "alpha"
price = {{ input_usd_per_mtok = 1.0, output_usd_per_mtok = 2.0 }}
[routing]
encoder = "static"
[embedded]
enabled = false
"""


@dataclass
class Attacked:
    """A gateway's process, and its upstream.

    Attributes:
        secret: A key that the gateway knows.
    """

    serving: Serving
    upstream: ScriptedUpstream
    url: str
    secret: str

    @property
    def key(self) -> bytes:
        """The header that proves who calls."""
        return b"authorization: Bearer " + self.secret.encode()

    @property
    def log(self) -> str:
        """What the process has logged so far."""
        number = self.serving.log.fileno()
        return os.pread(number, os.fstat(number).st_size, 0).decode()

    async def send(self, raw: bytes, then: bytes = b"") -> bytes:
        """Send bytes over a connection of their own, and more when an answer has begun.

        Returns all that comes back until the connection is closed.
        """
        place = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(raw)
                begun = await reader.readuntil(b"\r\n\r\n") if then else b""
                writer.write(then)
                return begun + await reader.read()
        finally:
            writer.close()

    async def ask(
        self, *headers: bytes, body: bytes = BODY, path: str = CHAT, method: str = "POST"
    ) -> bytes:
        """Send a request with a key; the length of its body is left to `headers`."""
        line = f"{method} {path} HTTP/1.1\r\n".encode()
        return await self.send(line + head(self.key, *headers) + body)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def attacked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Attacked]:
    folder: Path = tmp_path_factory.mktemp("attacked")
    upstream = ScriptedUpstream(json_answer(completion(), headers=SPOILED))
    async with serve(upstream, lifespan="off") as url:
        file = folder / "waypost.toml"
        file.write_text(SETTINGS.format(data=folder / "data", upstream=url, key=UPSTREAM_KEY))
        async with start(file) as serving:
            public = await serving.started()
            assert serving.key is not None
            yield Attacked(serving, upstream, public, serving.key)


@pytest.fixture
def gateway(attacked: Attacked) -> Attacked:
    """The process, with an upstream that has seen nothing."""
    attacked.upstream.requests.clear()
    return attacked


def head(*headers: bytes) -> bytes:
    """Write the headers of a request after which the connection is closed."""
    return b"\r\n".join((b"host: gateway", b"connection: close", *headers, b"", b""))


def length(body: bytes = BODY) -> bytes:
    return b"content-length: %d" % len(body)


def statuses(received: bytes) -> list[int]:
    """Return the status of every answer in what came back."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def smuggled(secret: str) -> bytes:
    """Write a whole request that hides in the body of another one."""
    headers = head(b"authorization: Bearer " + secret.encode(), length())
    return f"POST {CHAT} HTTP/1.1\r\n".encode() + headers + BODY


@pytest.mark.parametrize(
    "headers",
    [
        (b"content-length: 5", b"transfer-encoding: chunked"),
        (b"transfer-encoding: chunked", b"content-length: 5"),
        (b"content-length: 5", b"content-length: 6"),
        (b"content-length: -5",),
        (b"content-length: +5",),
        (b"content-length: 0x5",),
        (b"content-length: 5, 5",),
        (b"content-length: 5 5",),
        (b"content-length: 18446744073709551621",),
        (b"content-length : 5",),
        (b"transfer-encoding: xchunked",),
        (b"transfer-encoding: chunked, identity",),
        (b"transfer-encoding: chunked", b"transfer-encoding: identity"),
        (b"transfer-encoding: \x0bchunked",),
        (b"transfer-encoding : chunked",),
        (b"transfer-encoding:\r\n chunked",),
        (b"x: y\ntransfer-encoding: chunked",),
        (b"x: y\x00",),
        (b"x\x00y: z",),
        (b"no colon",),
        (b": no name",),
    ],
)
async def test_a_length_that_can_be_read_in_two_ways_smuggles_nothing(gateway, headers):
    received = await gateway.ask(*headers, body=b"0\r\n\r\n" + smuggled(gateway.secret))

    assert statuses(received) == [400]
    assert gateway.upstream.requests == []


@pytest.mark.parametrize(
    "body",
    [
        b"-5\r\n" + BODY,
        b"0x5\r\n" + BODY,
        b"+5\r\n" + BODY,
        b"fffffffffffffffff\r\n" + BODY,
        b"5\n" + BODY,
        b" 5\r\n" + BODY,
        b"\r\n\r\n" + BODY,
        b"5\r\nhello-",
    ],
)
async def test_a_chunk_without_a_proper_size_is_refused(gateway, body):
    received = await gateway.ask(b"transfer-encoding: chunked", body=body)

    assert statuses(received) == [400]
    assert gateway.upstream.requests == []


async def test_what_follows_a_body_is_no_header(gateway):
    size = b"%x;name=%b\r\n" % (len(BODY), b"x" * 1_000)
    body = size + BODY + b"\r\n0\r\nauthorization: Bearer other\r\nx-forged: 1\r\n\r\n"

    received = await gateway.ask(b"transfer-encoding: chunked", body=body)

    assert statuses(received) == [200]
    assert gateway.upstream.last.body["messages"] == HELLO
    assert {"x-forged", "name"}.isdisjoint(gateway.upstream.last.headers)


@pytest.mark.parametrize(
    "headers",
    [
        (b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMAAABk"),
        (
            b"connection: upgrade",
            b"upgrade: websocket",
            b"sec-websocket-version: 13",
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        ),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", CHAT), ("GET", "/health")])
async def test_no_other_protocol_is_switched_to(gateway, headers, method, path):
    body = BODY if method == "POST" else b""
    line = f"{method} {path} HTTP/1.1\r\nhost: gateway\r\n".encode()
    rest = b"\r\n".join((gateway.key, *headers, length(body), b"", b"")) + body

    received = await gateway.send(line + rest + smuggled(gateway.secret))

    assert statuses(received) == [200, 200]
    assert len(gateway.upstream.requests) == (2 if method == "POST" else 1)


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_who_offers_another_protocol_is_served_in_this_one(gateway, is_chunked):
    sent = [b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMAAABk"]
    body = CHUNKED if is_chunked else BODY
    form = b"transfer-encoding: chunked" if is_chunked else length()
    line = f"POST {CHAT} HTTP/1.1\r\n".encode()

    received = await gateway.send(
        line + head(gateway.key, *sent, form, b"expect: 100-continue"), body
    )

    assert statuses(received) == [100, 200]
    assert gateway.upstream.last.body["messages"] == HELLO
    assert "Unsupported upgrade" not in gateway.log


async def test_what_follows_a_body_that_was_not_asked_for_is_no_part_of_it(gateway):
    headers = (b"authorization: Bearer other", b"expect: 100-continue", length())
    line = f"POST {CHAT} HTTP/1.1\r\nhost: gateway\r\n".encode()

    received = await gateway.send(line + b"\r\n".join((*headers, b"", b"")))

    assert statuses(received) == [401]
    assert b"connection: close" in received


@pytest.mark.parametrize(
    "line",
    [
        b"PRI * HTTP/2.0",
        b"GET /health HTTP/3.0",
        b"GET /health HTTP/1.1 extra",
        b"GET /hea\x00lth HTTP/1.1",
        b"G\xffT /health HTTP/1.1",
        b"CONNECT elsewhere:443 HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
async def test_what_is_no_request_is_refused(gateway, line):
    received = await gateway.send(line + b"\r\n" + head())

    assert set(statuses(received)) <= {400, 404, 405}
    assert b'"status":"ok"' not in received


@pytest.mark.parametrize(
    "path",
    [
        "/admin/keys",
        "//admin/keys",
        "/v1/../admin/keys",
        "/v1/%2e%2e/admin/keys",
        "/v1/models/../../admin/keys",
        "/v1/models/..%2f..%2fadmin/keys",
        "/V1/CHAT/COMPLETIONS",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "/v1/chat/completions%00",
        "/v1/chat/completions;x",
        "/v1/chat%2fcompletions/..",
        "/./v1/chat/completions",
        "\\v1\\chat\\completions",
        "/metrics",
        "/docs",
        "/openapi.json",
    ],
)
@pytest.mark.parametrize("has_key", [True, False])
async def test_no_spelling_of_a_path_leads_anywhere_else(gateway, path, has_key):
    headers = head(*([gateway.key] if has_key else []), length())
    received = await gateway.send(f"POST {path} HTTP/1.1\r\n".encode() + headers + BODY)

    assert set(statuses(received)) <= ({400, 404, 405} if has_key else {400, 401, 404})
    assert gateway.upstream.requests == []


async def test_of_two_keys_the_last_one_counts(gateway):
    other = b"authorization: Bearer wp-000000000000-AAAA"
    line = f"POST {CHAT} HTTP/1.1\r\n".encode()
    keys = {401: (gateway.key, other), 200: (other, gateway.key)}

    for status, both in keys.items():
        received = await gateway.send(line + head(*both, length()) + BODY)
        assert statuses(received) == [status]


async def test_nothing_but_the_gateways_own_headers_goes_upstream_and_comes_back(gateway):
    sent = {
        b"cookie": b"session=mine",
        b"proxy-authorization": b"Basic eDp5",
        b"x-api-key": b"sk-mine",
        b"x-forwarded-for": b"10.0.0.1",
        b"x-forwarded-host": b"elsewhere",
        b"forwarded": b"for=10.0.0.1",
        b"origin": b"http://elsewhere",
        b"referer": b"http://elsewhere/?key=mine",
        b"user-agent": b"attacker",
        b"traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        b"baggage": b"mine=1",
        b"openai-organization": b"org-mine",
        b"x-waypost-task": b"mine",
    }
    headers = [name + b": " + value for name, value in sent.items()]

    received = await gateway.ask(*headers, length())

    asked = gateway.upstream.last.headers
    assert asked["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert asked["host"] != "gateway"
    assert set(asked) == {
        *("host", "authorization", "content-type", "content-length", "x-request-id"),
        *("accept", "accept-encoding", "user-agent"),
    }
    assert not {value.decode() for value in sent.values()} & set(asked.values())
    answered = received.partition(b"\r\n\r\n")[0].lower()
    assert statuses(received) == [200]
    assert b"set-cookie" not in answered
    assert b"\r\nserver:" not in answered
    assert b"location" not in answered
    assert UPSTREAM_KEY.encode() not in received


FORGED = "x\r\nset-cookie: forged=1\r\n\r\n2026-01-01 ERROR forged line"


@pytest.mark.parametrize(
    "body",
    [
        {"model": FORGED},
        {"user": FORGED},
        {"metadata": {FORGED: FORGED}},
        {"waypost": {"task": FORGED}},
        {"waypost": {"conversation_id": FORGED}},
        {"waypost": {"router_version": FORGED}},
        {"waypost": {FORGED: 1}},
        {"messages": [{"role": FORGED, "content": FORGED}]},
    ],
)
async def test_a_line_end_in_a_field_begins_no_header_and_no_line_of_the_log(gateway, body):
    raw = orjson.dumps({"model": "small", "messages": HELLO, **body})
    received = await gateway.ask(length(raw), body=raw)
    graded = orjson.dumps({"id": FORGED, "score": 1, "comment": FORGED})
    is_json = b"content-type: application/json"
    received += await gateway.ask(is_json, length(graded), body=graded, path="/v1/feedback")
    received += await gateway.ask(method="GET", path="/v1/x%0d%0aset-cookie:%20forged=1", body=b"")

    heads = [part.partition(b"\r\n\r\n")[0] for part in received.split(b"HTTP/1.1 ")]
    assert b"set-cookie" not in b"".join(heads).lower()
    assert not [line for line in gateway.log.splitlines() if line.startswith("2026-01-01 ERROR")]


async def test_the_process_still_serves(gateway):
    received = await gateway.ask(b"transfer-encoding: chunked", body=CHUNKED)

    assert statuses(received) == [200]
    assert "Traceback" not in gateway.log
