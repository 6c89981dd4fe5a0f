"""Ways to reach what is not allowed, beside chat."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import orjson
import pytest
import pytest_asyncio
from pydantic import ValidationError

from gateway.access.keys import KeyStore
from gateway.settings.config import GatewaySettings
from tests.fakes.endpoints import (
    BOUNDARY,
    EMBEDDER,
    FORM,
    MODELS,
    ONE_WAY,
    RERANKER,
    WRITER,
    form,
    gateway_of_endpoints,
    text_field,
    vectors,
)
from tests.fakes.gateway import ALPHA_KEY, SMALL, RunningGateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.turns import until
from tests.fakes.upstream import Answer, json_answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

EMBEDDINGS = "/v1/embeddings"
IMAGES = "/v1/images/generations"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    async with gateway_of_endpoints(tmp_path_factory.mktemp("endpoints")) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: RunningGateway) -> RunningGateway:
    running.upstreams.reset()
    for upstream in running.upstreams.by_name.values():
        upstream.answers = [json_answer({"id": "x", "object": "x"})]
    return running


@pytest_asyncio.fixture(loop_scope="session")
async def http(gateway: RunningGateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway.caller() as client:
        yield client


def new_key(gateway: RunningGateway, team: str = "default", **fields: Any) -> str:
    keys = KeyStore(gateway.engine)
    if team != "default":
        keys.create_team(team)
    return keys.create_key(team, "test", **fields).secret.get_secret_value()


async def raw(gateway: RunningGateway, path: str, method: str = "POST") -> int:
    """Send a request whose path nobody tidies up; return the status of its answer."""
    place = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
        "content-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            writer.write(head.encode())
            return int((await reader.readline()).split()[1])
    finally:
        writer.close()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/fine_tuning/jobs",
        "/v1/images/../files",
        "/v1/images/generations/../../files",
        "/v1/images/generations/",
        "/v1/images//generations",
        "//v1/images/generations",
        "/v1/images%2fgenerations",
        "/openai/v1/images%2fgenerations",
        "/%6fpenai/v1/images/generations",
        "/v1/images/generations%2f..%2f..%2ffiles",
        "/v1/images/generations%3fa=b",
        "/v1/images/generations%23",
        "/v1/images/generations;a=b",
        "/v1/images/generation%73",
        "/v1/Images/generations",
        "/v1/images/generations\\..\\files",
        "/v1/images/generations%00",
        "/v1/images/generations?model=dear",
        "/v1/embeddings/../images/generations",
    ],
)
async def test_no_spelling_of_a_path_reaches_an_endpoint_that_is_not_allowed(gateway, path) -> None:
    assert await raw(gateway, path) in (400, 404)
    assert gateway.alpha.requests == gateway.beta.requests == []


@pytest.mark.parametrize(
    "name",
    [
        *("..", ".", "...", "a%2f..%2f..%2fmodels", "a%2fb", "a/content", "%2e%2e", "a?b"),
        *("a%3fb=c", "", "a..b", "-a", "a%20b", "a%0d%0ax: y", "é", "a" * 200, "a%25", "a;b"),
        "a%5c",
    ],
)
async def test_no_name_in_a_path_leads_anywhere_else(gateway, name) -> None:
    status = await raw(gateway, f"/v1/files/{name}", "GET")
    assert status in (400, 404, 405)
    assert gateway.beta.requests == []


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_no_other_method_of_an_allowed_path_is_served(gateway, http, method) -> None:
    answer = await http.request(method, "/v1/files/file-1")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert gateway.beta.requests == []


@pytest.mark.parametrize("path", [EMBEDDINGS, "/v1/completions", "/v1/rerank", IMAGES, "/v1/files"])
async def test_without_a_key_nothing_is_read_or_sent(gateway, path) -> None:
    place = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
    async with asyncio.timeout(PATIENCE_S):
        writer.write(head.encode())
        status = (await reader.readline()).split()[1]
    writer.close()
    assert status == b"401"
    assert gateway.alpha.requests == gateway.beta.requests == []


@pytest.mark.parametrize("path", [EMBEDDINGS, IMAGES, "/v1/images/edits"])
async def test_a_body_longer_than_the_limit_is_refused(gateway, http, path) -> None:
    headers = FORM if path.endswith("edits") else {"content-type": "application/json"}
    answer = await http.post(path, content=b"x" * 1_000_001, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


async def test_nothing_of_the_callers_headers_goes_up_and_nothing_but_the_type_comes_back(
    gateway, http
) -> None:
    spoiled = {"set-cookie": "a=b", "server": "up", "content-type": "audio/mpeg", "x-up": "1"}
    gateway.alpha.answers = [Answer((b"x",), headers={**spoiled, "keep-alive": "timeout=1"})]
    sent = {"cookie": "a=b", "x-forwarded-for": "1.2.3.4", "openai-organization": "o", "te": "x"}

    answer = await http.post("/v1/audio/speech", json={"input": "Hi"}, headers=sent)

    received = gateway.alpha.last.headers
    assert received["authorization"] == f"Bearer {ALPHA_KEY}"
    assert not received.keys() & {*sent, "x-waypost-model"}
    assert not answer.headers.keys() & {"set-cookie", "x-up", "keep-alive"}
    assert answer.headers.get("server") != "up"


async def test_a_team_that_is_not_named_uses_no_file_of_another_one(gateway) -> None:
    key = new_key(gateway, "other")
    async with gateway.caller(key) as http:
        listed = await http.get("/v1/files")
        read = await http.get("/v1/files/file-1")
        kept = await http.post(
            "/v1/files", content=form(text_field("purpose", "batch")), headers=FORM
        )
    assert {answer.status_code for answer in (listed, read, kept)} == {403}
    assert gateway.beta.requests == []


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/files", {}),
        ("/v1/files", {"teams": ["a", "b"]}),
        ("/v1/files/{file_id}", {"method": "GET"}),
        ("/v1/images/{image_id}", {"method": "DELETE"}),
        ("/v1/batches", {}),
        ("/v1/what_is_not_known", {}),
        ("/v1/images/generations", {"upstream_path": "/v1/files"}),
    ],
)
async def test_what_is_kept_at_a_provider_needs_one_team(tmp_path, path, fields) -> None:
    table = {"provider": "p", "path": path, "price_per_call_usd": 0, **fields}
    settings = {"data_dir": tmp_path, "providers": {"p": {"base_url": "http://x"}}}
    with pytest.raises(ValidationError, match="name the one team"):
        GatewaySettings.model_validate({**settings, "passthrough": {"it": table}})


async def test_two_teams_do_not_share_a_provider_that_keeps_something(tmp_path) -> None:
    table = {"provider": "p", "path": "/v1/files", "teams": ["a"], "price_per_call_usd": 0}
    other = {**table, "path": "/v1/batches", "teams": ["b"]}
    settings = {"data_dir": tmp_path, "providers": {"p": {"base_url": "http://x"}}}
    with pytest.raises(ValidationError, match="a key of its own"):
        GatewaySettings.model_validate({**settings, "passthrough": {"a": table, "b": other}})


@pytest.mark.parametrize(
    "path",
    ["/v1/../admin", "/v1/a/../b", "/v1//a", "/v1/a?b", "/v1/%2e%2e", "/v2/a", "/v1", "/v1/{a}{b}"],
)
async def test_no_entry_of_the_settings_has_a_path_that_leads_elsewhere(tmp_path, path) -> None:
    table = {"provider": "p", "path": path, "teams": ["a"], "price_per_call_usd": 0}
    settings = {"data_dir": tmp_path, "providers": {"p": {"base_url": "http://x"}}}
    with pytest.raises(ValidationError, match=r"passthrough\.it\.path"):
        GatewaySettings.model_validate({**settings, "passthrough": {"it": table}})


async def test_a_call_without_a_price_is_not_allowed_by_mistake(tmp_path) -> None:
    settings = {"data_dir": tmp_path, "providers": {"p": {"base_url": "http://x"}}}
    table = {"provider": "p", "path": "/v1/moderations"}
    with pytest.raises(ValidationError, match="price_per_call_usd"):
        GatewaySettings.model_validate({**settings, "passthrough": {"it": table}})


async def test_a_key_uses_no_model_of_any_kind_that_it_may_not(gateway) -> None:
    key = new_key(gateway, allowed_models=[SMALL, "gpt-image-1"])
    edit = form(text_field("model", "gpt-image-1"))
    async with gateway.caller(key) as http:
        refused = [
            await http.post(EMBEDDINGS, json={"model": EMBEDDER, "input": "x"}),
            await http.post(EMBEDDINGS, json={"model": "auto", "input": "x"}),
            await http.post("/v1/completions", json={"model": WRITER, "prompt": "x"}),
            await http.post("/v1/rerank", json={"model": RERANKER, "query": "x", "documents": [1]}),
            await http.post("/v1/moderations", json={"model": "omni-moderation-latest"}),
            await http.post(IMAGES, json={"prompt": "x"}),
            await http.post("/v1/audio/speech", json={"model": "tts-1", "input": "x"}),
        ]
        listed = {model["id"] for model in (await http.get("/v1/models")).json()["data"]}
        assert gateway.alpha.requests == []
        allowed = await http.post("/v1/images/edits", content=edit, headers=FORM)
    assert [answer.status_code for answer in refused] == [404, 400, 404, 404, 404, 404, 404]
    assert EMBEDDER not in listed
    assert allowed.status_code == 200


async def test_auto_is_refused_where_vectors_of_several_models_would_mix(tmp_path) -> None:
    both = {**MODELS, "text-embedding-3-large": {"provider": "alpha", "price": ONE_WAY}}
    async with gateway_of_endpoints(tmp_path, models=both) as gateway:
        one = new_key(gateway, allowed_models=["text-embedding-3-large"])
        gateway.alpha.answers = [vectors()]
        async with gateway.caller() as http, gateway.caller(one) as limited:
            refused = await http.post(EMBEDDINGS, json={"model": "auto", "input": "x"})
            served = await limited.post(EMBEDDINGS, json={"model": "auto", "input": "x"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")
    assert "cannot be mixed" in refused.json()["error"]["message"]
    assert served.headers["x-waypost-model"] == "text-embedding-3-large"


async def test_a_profile_admits_what_auto_may_stand_for(tmp_path) -> None:
    narrow = {"balanced": {"willingness_to_pay_usd": 1.0, "models": [SMALL]}}
    async with gateway_of_endpoints(tmp_path, profiles=narrow) as gateway, gateway.caller() as http:
        refused = await http.post(EMBEDDINGS, json={"model": "auto", "input": "x"})
        assert gateway.alpha.requests == []
    assert "admit: none" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (EMBEDDINGS, {"model": EMBEDDER, "input": "x", "service_tier": "priority"}),
        (EMBEDDINGS, {"model": EMBEDDER, "input": "x", "models": ["dear"]}),
        ("/v1/completions", {"model": WRITER, "prompt": "x", "use_beam_search": True}),
        ("/v1/completions", {"model": WRITER, "prompt": "x", "n": -1}),
        ("/v1/completions", {"model": WRITER, "prompt": "x", "n": True}),
        ("/v1/completions", {"model": WRITER, "prompt": "x", "best_of": 10**6}),
        ("/v1/completions", {"model": WRITER, "prompt": "x", "max_tokens": "9"}),
        ("/v1/completions", {"model": WRITER, "prompt": "x", "max_tokens": 2**31}),
        (IMAGES, {"prompt": "x", "n": 0}),
        (IMAGES, {"prompt": "x", "n": "1e3"}),
        (IMAGES, {"prompt": "x", "n": 2.5}),
        (IMAGES, {"prompt": "x", "quality": "hd"}),
        ("/v1/moderations", {"model": "another", "input": "x"}),
        ("/v1/moderations", {"input": "x"}),
    ],
)
async def test_what_may_change_a_price_is_refused(gateway, http, path, fields) -> None:
    answer = await http.post(path, json=fields)
    assert answer.status_code in (400, 404)
    assert gateway.alpha.requests == []


async def test_of_two_names_in_json_the_one_that_was_read_is_sent(gateway, http) -> None:
    twice = b'{"prompt": "x", "n": 1000, "n": 1}'
    headers = {"content-type": "application/json"}
    answer = await http.post(IMAGES, content=twice, headers=headers)
    assert answer.headers["x-waypost-cost-usd"] == "0.040000000"
    assert gateway.alpha.last.body == {"prompt": "x", "n": 1}


MODEL = text_field("model", "gpt-image-1")
ODD = {
    "twice": form(MODEL, text_field("model", "dear")),
    "another spelling": form(MODEL, text_field("Model", "dear")),
    "a list": form(MODEL, text_field("model[]", "dear")),
    "a file": form('Content-Disposition: form-data; name="model"; filename="m"\r\n\r\ngpt-image-1'),
    "two names": form(MODEL, 'Content-Disposition: form-data; name="x"; name="model"\r\n\r\ndear'),
    "two dispositions": form(
        'Content-Disposition: form-data; name="x"\r\n'
        'Content-Disposition: form-data; name="model"\r\n\r\ngpt-image-1'
    ),
    "an encoding": form(
        MODEL,
        'Content-Disposition: form-data; name="x"\r\nContent-Transfer-Encoding: base64\r\n\r\n',
    ),
    "folded": form('Content-Disposition: form-data;\r\n name="model"\r\n\r\ngpt-image-1'),
    "a line feed in a head": form(MODEL, 'Content-Disposition: form-data;\n name="x"\r\n\r\n'),
    "line feeds": form(MODEL).replace(b"\r\n", b"\n"),
    "a boundary after a line feed": form(
        MODEL, f"{text_field('x', 'y')}\n--{BOUNDARY}\n{text_field('a', '')}"
    ),
    "before it": b"hidden\r\n" + form(MODEL),
    "after it": form(MODEL)
    + b"\r\n--xyz\r\n"
    + text_field("model", "dear").encode()
    + b"\r\n--xyz--",
    "no end": form(MODEL).removesuffix(b"--"),
    "a boundary in a file": form(MODEL, file=b"\r\n--xyzw\r\n"),
    "no model": form(text_field("x", "y")),
    "items twice": form(MODEL, text_field("n", "1"), text_field("n", "9")),
    "a list of items": form(MODEL, text_field("n[]", "9")),
    "odd items": form(MODEL, text_field("n", "0x9")),
    "many parts": form(MODEL, *(text_field(f"f{n}", "") for n in range(200))),
    "nothing": b"",
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
async def test_a_form_that_can_be_read_in_two_ways_is_refused(gateway, http, body) -> None:
    answer = await http.post("/v1/images/edits", content=body, headers=FORM)
    assert answer.status_code in (400, 404)
    assert gateway.alpha.requests == []


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "",
        "multipart/mixed; boundary=xyz",
        "multipart/form-data",
        "multipart/form-data; boundary=xyz; boundary=abc",
        "multipart/form-data; boundary=é",
    ],
)
async def test_a_body_of_another_type_is_refused(gateway, http, content_type) -> None:
    headers = {"content-type": content_type.encode()}
    answer = await http.post("/v1/images/edits", content=form(MODEL), headers=headers)
    assert (answer.status_code, gateway.alpha.requests) == (400, [])


async def test_a_plain_form_passes_and_its_items_are_paid_for(gateway, http) -> None:
    body = form(
        MODEL, text_field("n", "3"), text_field("prompt", "a cat"), file=bytes(range(256)) * 100
    )
    answer = await http.post("/v1/images/edits", content=body, headers=FORM)
    assert answer.headers["x-waypost-cost-usd"] == "0.120000000"
    assert gateway.alpha.last.raw == body


@pytest.mark.parametrize("raw", [b"{", b"[]", b"null", b'{"model":', b"\xff", b"[" * 5000])
@pytest.mark.parametrize("path", [EMBEDDINGS, "/v1/completions", "/v1/rerank", IMAGES])
async def test_no_body_makes_an_endpoint_fail(gateway, http, path, raw) -> None:
    answer = await http.post(path, content=raw, headers={"content-type": "application/json"})
    assert (answer.status_code, gateway.alpha.requests) == (400, [])


@pytest.mark.parametrize("value", [None, 1, 1.5, True, {}, [], [None], [[]], [{}], "", [[1.5]]])
@pytest.mark.parametrize(
    ("path", "name"),
    [
        *((EMBEDDINGS, name) for name in ("input", "model", "user")),
        ("/v1/completions", "prompt"),
        *(("/v1/rerank", name) for name in ("documents", "query")),
    ],
)
async def test_no_value_at_any_place_makes_an_endpoint_fail(gateway, http, path, name, value):
    model = {EMBEDDINGS: EMBEDDER, "/v1/completions": WRITER, "/v1/rerank": RERANKER}[path]
    body = {"model": model, "input": "x", "prompt": "x", "query": "x", "documents": ["x"]}
    kept = {EMBEDDINGS: {"input"}, "/v1/completions": {"prompt"}}.get(path, {"query", "documents"})
    sent = {key: item for key, item in body.items() if key == "model" or key in kept}
    answer = await http.post(path, content=orjson.dumps({**sent, name: value}))
    assert answer.status_code in (200, 400)
    await until(lambda: gateway.app.budgets.ledger.running == 0)
