"""Manners of HTTP: methods, origins, paths, compressed bodies, ids and credentials."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from typing import Any

import httpx2
import orjson
import pytest
import pytest_asyncio

from gateway.inflating import ENCODINGS, NAMED
from tests.fakes.gateway import SMALL, RunningGateway, running_gateway
from tests.fakes.upstream import (
    JSON,
    Answer,
    anthropic_message,
    completion,
    json_answer,
    stream_answer,
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("wire http"),  # one gateway
]

CHAT = "/v1/chat/completions"
BODY = {"model": SMALL, "messages": [{"role": "user", "content": "Say hello."}]}
PAGE = "https://chat.example.org"
LIMITS = {"port": 0, "admin_port": 0, "max_body_bytes": 100_000}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    server = {**LIMITS, "cors_origins": [PAGE]}
    async with running_gateway(tmp_path_factory.mktemp("wire"), server=server) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: RunningGateway) -> RunningGateway:
    """The gateway, whose upstreams have seen nothing."""
    running.upstreams.reset()
    running.alpha.answers = [json_answer(completion())]
    return running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def http(running: RunningGateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with running.caller() as client:
        yield client


# --- other origins


def preflight(origin: str) -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
    }


@pytest.mark.parametrize("path", [CHAT, "/v1/models"])
async def test_a_page_that_is_listed_may_call(gateway: RunningGateway, path: str) -> None:
    async with httpx2.AsyncClient(base_url=gateway.url, trust_env=False) as stranger:
        answer = await stranger.options(path, headers=preflight(PAGE))
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_page_that_is_listed_reads_the_answer(
    gateway: RunningGateway, http: httpx2.AsyncClient, *, is_stream: bool
) -> None:
    gateway.alpha.answers = [stream_answer() if is_stream else json_answer(completion())]
    body = {**BODY, "stream": is_stream}
    answer = await http.post(CHAT, json=body, headers={"origin": PAGE})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-expose-headers"] == "*"


async def test_a_page_that_is_not_listed_may_not(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    refused = await http.options(CHAT, headers=preflight("https://evil.example"))
    assert refused.status_code == 400
    answer = await http.post(CHAT, json=BODY, headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


async def test_by_default_no_page_is_listed(shared_gateway: RunningGateway) -> None:
    async with shared_gateway.caller() as http:
        answer = await http.options(CHAT, headers=preflight(PAGE))
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert not [name for name in answer.headers if name.startswith("access-control")]


# --- methods and paths


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models", "/v1/models/auto"])
async def test_head_says_what_get_would(
    gateway: RunningGateway, http: httpx2.AsyncClient, path: str
) -> None:
    whole, head = await http.get(path), await http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert head.headers["content-type"] == whole.headers["content-type"]


METHODS = {
    ("GET", CHAT): "POST",
    ("HEAD", CHAT): "POST",
    ("PUT", CHAT): "POST",
    ("DELETE", "/v1/models"): "GET, HEAD",
    ("POST", "/health"): "GET, HEAD",
    ("GET", "/v1/route"): "POST",
}


@pytest.mark.parametrize(("sent", "allowed"), METHODS.items(), ids=" ".join)
async def test_another_method_is_told_which_there_are(
    gateway: RunningGateway, http: httpx2.AsyncClient, sent: tuple[str, str], allowed: str
) -> None:
    answer = await http.request(*sent)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


NEAR = {
    "/v1//chat/completions": CHAT,
    "/v1/chat/completions/": CHAT,
    "/chat/completions": CHAT,
    "/chat//completions//": CHAT,
    "/v1/v1/chat/completions": CHAT,
    "/V1/Chat/Completions": CHAT,
    "/models": "/v1/models",
    "/v1/models/": None,  # a model without a name
    "/v1/health": "/health",
    "/route/": "/v1/route",
    "/v1/unknown": None,
    "/" + "v1/" * 5_000: None,
}


@pytest.mark.parametrize(("path", "meant"), NEAR.items())
async def test_a_path_that_is_nearly_right_gets_a_hint(
    gateway: RunningGateway, http: httpx2.AsyncClient, path: str, meant: str | None
) -> None:
    answer = await http.post(path, json=BODY)
    assert answer.status_code in (404, 405)
    assert (f"Is {meant} meant?" in answer.json()["error"]["message"]) is (meant is not None)
    assert not gateway.alpha.requests


# --- bodies


def gzipped(body: bytes) -> bytes:
    return gzip.compress(body[:9]) + gzip.compress(body[9:])


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "GZIP": gzip.compress,
    "x-gzip": gzipped,
    "deflate": zlib.compress,
    "identity": bytes,
}
if "br" in ENCODINGS:
    PACKED["br"] = import_module("brotli").compress


@pytest.mark.parametrize("path", [CHAT, "/v1/route"])
@pytest.mark.parametrize("encoding", PACKED)
async def test_compressed_bodies_are_read(
    gateway: RunningGateway, http: httpx2.AsyncClient, path: str, encoding: str
) -> None:
    body = PACKED[encoding](orjson.dumps(BODY))
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    assert (await http.post(path, content=body, headers=headers)).status_code == 200


LONG = orjson.dumps({**BODY, "user": "x" * 100_000})
REFUSED: dict[str, tuple[str, bytes, int]] = {
    "longer than the limit": ("gzip", gzip.compress(LONG), 413),
    "a bomb": ("gzip", gzip.compress(b"[" * 90_000_000), 413),
    "a bomb of members": ("gzip", gzip.compress(b" " * 50_000) * 500, 413),
    "no gzip": ("gzip", orjson.dumps(BODY), 400),
    "half of it": ("gzip", gzip.compress(orjson.dumps(BODY))[:-9], 400),
    "nothing": ("gzip", b"", 400),
    "unknown": ("zstd", b"\x28\xb5\x2f\xfd", 415),
    "half of it, or unknown": ("br", b"\x0b\x02\x80{}", 400 if "br" in ENCODINGS else 415),
    "twice": ("gzip, gzip", gzip.compress(gzip.compress(orjson.dumps(BODY))), 415),
}


@pytest.mark.parametrize("path", [CHAT, "/v1/feedback"])
@pytest.mark.parametrize(("encoding", "body", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_bodies_that_cannot_be_inflated_within_the_limit_are_refused(
    gateway: RunningGateway,
    http: httpx2.AsyncClient,
    path: str,
    encoding: str,
    body: bytes,
    status: int,
) -> None:
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    answer = await http.post(path, content=body, headers=headers)
    assert answer.status_code == status
    if status == 415:
        assert answer.headers["accept-encoding"] == ", ".join(NAMED)
        assert ", ".join(NAMED) in answer.json()["error"]["message"]
    assert not gateway.alpha.requests


# --- ids, credentials and names


ANY = {
    "no key": ("POST", CHAT, {"authorization": ""}, 401),
    "no such path": ("GET", "/v1/nothing", {}, 404),
    "another method": ("DELETE", CHAT, {}, 405),
    "no JSON": ("POST", CHAT, {}, 400),
    "models": ("GET", "/v1/models", {}, 200),
    "health": ("GET", "/health", {}, 200),
    "head": ("HEAD", "/health", {}, 200),
    "a bad grade": ("POST", "/v1/feedback", {}, 400),
}


@pytest.mark.parametrize("case", ANY.values(), ids=ANY.keys())
async def test_every_answer_has_an_id(
    gateway: RunningGateway, http: httpx2.AsyncClient, case: Any
) -> None:
    method, path, headers, status = case
    answers = [await http.request(method, path, headers=headers) for _ in range(2)]
    assert {one.status_code for one in answers} == {status}
    ids = [one.headers.get_list("x-request-id") for one in answers]
    assert all(len(one) == 1 and one[0].startswith("req_") for one in ids)
    assert ids[0] != ids[1]


@pytest.mark.parametrize("header", ["x-api-key", "api-key"])
@pytest.mark.parametrize("dummy", ["Bearer dummy", "Bearer sk-no-key-required", "Basic abc", ""])
async def test_a_valid_key_counts_beside_a_bearer_token_without_meaning(
    gateway: RunningGateway, header: str, dummy: str
) -> None:
    headers = {"authorization": dummy, header: gateway.key}
    async with httpx2.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        assert (await client.post(CHAT, json=BODY, headers=headers)).status_code == 200
        alone = await client.post(CHAT, json=BODY, headers={"authorization": dummy})
        assert alone.status_code == 401
        both = {"authorization": f"Bearer {gateway.key}", header: "dummy"}
        assert (await client.post(CHAT, json=BODY, headers=both)).status_code == 200


@pytest.mark.parametrize("raw", ["Übersetzung".encode(), "Übersetzung".encode("latin-1")])
async def test_a_task_is_logged_as_it_was_written(
    gateway: RunningGateway, http: httpx2.AsyncClient, raw: bytes
) -> None:
    answer = await http.post(CHAT, json=BODY, headers={b"X-Waypost-Task": raw})
    row = await gateway.turn(answer.headers["x-request-id"])
    assert row.metadata == {"task": "Übersetzung"}


async def test_the_version_of_a_router_is_told_only_where_it_decided(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    routed = await http.post(CHAT, json={**BODY, "model": "auto"})
    assert routed.headers["x-waypost-router-version"] == routed.json()["waypost"]["router_version"]
    named = await http.post(CHAT, json=BODY)
    assert "x-waypost-router-version" not in named.headers


async def test_nor_is_it_where_the_router_knows_none_of_the_models(tmp_path: Any) -> None:
    profile = {"willingness_to_pay_usd": 1.0, "models": ["sonnet"]}
    async with running_gateway(tmp_path, profiles={"claude": profile}) as it, it.caller() as http:
        answer = await http.post("/v1/route", json={**BODY, "model": "claude"})
    assert (answer.json()["reason"], answer.json()["router_version"]) == ("router_missing", None)


HUGE = 123456789012345678901234567890
NUMBERS: dict[str, dict[str, Any]] = {
    "a field": {"seed": HUGE},
    "a negative one": {"seed": -HUGE},
    "within a tool": {
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "parameters": {"type": "object", "properties": {"id": {"enum": [HUGE]}}},
                },
            }
        ]
    },
    "of 64 bits": {"seed": 2**63 - 1},
    "a text of digits": {"user": "1" * 40},
}


@pytest.mark.parametrize("model", [SMALL, "auto", "sonnet"])
@pytest.mark.parametrize("fields", NUMBERS.values(), ids=NUMBERS.keys())
async def test_integers_of_any_length_survive(
    gateway: RunningGateway, http: httpx2.AsyncClient, model: str, fields: dict[str, Any]
) -> None:
    whole = completion(serial=HUGE)
    gateway.alpha.answers = [Answer((json.dumps(whole).encode(),), headers=JSON)]
    gateway.gamma.answers = [json_answer(anthropic_message())]
    body = json.dumps({**BODY, "model": model, **fields}).encode()
    answer = await http.post(CHAT, content=body)
    assert answer.status_code == 200
    if model == "sonnet":
        given = fields.get("tools", [{}])[0].get("function", {}).get("parameters")
        sent = json.loads(gateway.gamma.last.raw)
        assert given is None or sent["tools"][0]["input_schema"] == given
    else:
        sent = json.loads(gateway.alpha.last.raw)
        assert {name: sent[name] for name in fields} == fields
        assert json.loads(answer.content)["serial"] == HUGE


@pytest.mark.parametrize("field", ["stream", "n", "max_tokens", "model", "messages"])
async def test_no_long_integer_makes_the_gateway_fail(
    gateway: RunningGateway, http: httpx2.AsyncClient, field: str
) -> None:
    body = json.dumps({**BODY, field: HUGE}).encode()
    assert (await http.post(CHAT, content=body)).status_code in (200, 400)
    own = json.dumps({**BODY, "waypost": {"willingness_to_pay": 10**400}}).encode()
    assert (await http.post(CHAT, content=own)).status_code == 400
