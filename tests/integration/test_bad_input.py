"""What a caller can send wrong: a clear error in OpenAI's shape for each, and never a 500."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
import pytest_asyncio

from gateway.access.keys import KeyStore
from tests.fakes.gateway import SMALL, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.upstream import completion, json_answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Say hello."}]
BODY = {"model": "auto", "messages": HELLO}
MAX_BODY_BYTES = 1_000_000


def assert_refused(
    response: httpx2.Response, status: int, code: str, param: str | None = None
) -> None:
    """Check an error's status and shape."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["param"] == param
    assert error["message"]
    assert "Traceback" not in error["message"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stranger(shared_gateway) -> AsyncIterator[httpx2.AsyncClient]:
    """An HTTP client without a key."""
    async with httpx2.AsyncClient(
        base_url=shared_gateway.url, timeout=PATIENCE_S, trust_env=False
    ) as client:
        yield client


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"not json", b"[]", b"null", b'"text"', b'{"model": "auto",}', b"\xff\xfe", b"NaN"],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/route"])
async def test_a_body_that_is_no_json_object_is_refused(gateway, http, path, raw):
    response = await http.post(path, content=raw, headers={"content-type": "application/json"})

    assert_refused(response, 400, "invalid_request")
    assert gateway.alpha.requests == []


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"model": ""}, "model"),
        ({"model": "m" * 300}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Say hello."}, "messages"),
        ({"messages": ["Say hello."]}, "messages[0]"),
        ({"messages": [{"content": "Say hello."}]}, "messages[0]"),
        ({"messages": [*HELLO, {"role": None}]}, "messages[1]"),
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream_options": "usage"}, "stream_options"),
        ({"waypost": []}, "waypost"),
        ({"waypost": {"willingnes_to_pay": 1}}, "waypost.willingnes_to_pay"),
        ({"waypost": {"willingness_to_pay": "much"}}, "waypost.willingness_to_pay"),
        ({"waypost": {"willingness_to_pay": 0}}, "waypost.willingness_to_pay"),
        ({"waypost": {"willingness_to_pay": True}}, "waypost.willingness_to_pay"),
        ({"waypost": {"conversation_id": "two words"}}, "waypost.conversation_id"),
        ({"waypost": {"router_version": 3}}, "waypost.router_version"),
        ({"waypost": {"router_version": "kmeans-20260101-0123456789ab"}}, "waypost.router_version"),
        ({"waypost": {"router_version": "../../etc/passwd"}}, "waypost.router_version"),
    ],
)
async def test_a_field_of_the_wrong_type_is_named(gateway, http, change, param):
    response = await http.post(CHAT, json=BODY | change)

    assert_refused(response, 400, "invalid_request", param)
    assert gateway.alpha.requests == []


@pytest.mark.parametrize(
    ("header", "value", "param"),
    [
        ("X-Waypost-Willingness-To-Pay", "1e10", "waypost.willingness_to_pay"),
        ("X-Waypost-Willingness-To-Pay", "-1", "waypost.willingness_to_pay"),
        ("X-Waypost-Willingness-To-Pay", "nan", "waypost.willingness_to_pay"),
        ("X-Waypost-Willingness-To-Pay", "", "waypost.willingness_to_pay"),
        ("X-Waypost-Router-Version", "latest", "waypost.router_version"),
        ("X-Waypost-Conversation-Id", "x" * 129, "waypost.conversation_id"),
        ("X-Waypost-Task", "t" * 257, "waypost.task"),
    ],
)
async def test_a_header_out_of_range_is_named(http, header, value, param):
    response = await http.post(CHAT, json=BODY, headers={header: value})

    assert_refused(response, 400, "invalid_request", param)


@pytest.mark.parametrize("path", [CHAT, "/v1/route"])
async def test_a_body_that_says_it_is_too_long_is_refused_unread(gateway, path):
    address = httpx2.URL(gateway.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {address.host}\r\nauthorization: Bearer {gateway.key}\r\n"
        f"content-length: {MAX_BODY_BYTES + 1}\r\n\r\n"
    )

    writer.write(head.encode())
    answer = await asyncio.wait_for(reader.readuntil(b"}}"), PATIENCE_S)
    writer.close()
    await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"request_too_large"' in answer


@pytest.mark.parametrize("path", [CHAT, "/v1/route"])
async def test_a_chunked_body_is_refused_once_it_is_too_long(http, path):
    async def long() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * (MAX_BODY_BYTES // 16)

    response = await http.post(path, content=long())

    assert_refused(response, 413, "request_too_large")


async def test_a_body_of_the_greatest_length_is_taken(gateway, http):
    gateway.alpha.answers = [json_answer(completion())]
    start, end = b'{"model":"small","messages":[{"role":"user","content":"', b'"}]}'
    raw = start + b"x" * (MAX_BODY_BYTES - len(start) - len(end)) + end

    response = await http.post(CHAT, content=raw)

    assert response.status_code == 200


async def test_json_that_is_nested_too_deeply_is_refused(http):
    raw = b'{"model":"auto","messages":' + b"[" * 20_000 + b"]" * 20_000 + b"}"

    response = await http.post(CHAT, content=raw)

    assert_refused(response, 400, "invalid_request")


@pytest.mark.parametrize("number", [b"1e999", b"123456789012345678901234567890", b"-0.0"])
async def test_numbers_of_any_size_never_break_the_gateway(gateway, http, number):
    gateway.alpha.answers = [json_answer(completion())]
    raw = b'{"model":"small","messages":[{"role":"user","content":"x"}],"seed":%b}' % number

    response = await http.post(CHAT, content=raw)

    assert response.status_code in (200, 400)


@pytest.mark.parametrize("model", ["nobody", "gpt-4o", "AUTO", "small "])
async def test_a_model_that_is_not_served_is_not_found(http, model):
    response = await http.post(CHAT, json=BODY | {"model": model})

    assert_refused(response, 404, "model_not_found", "model")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer sk-openai"},
        {"authorization": "Basic d3A6d3A="},
        {"authorization": "Bearer wp-nobody-secret"},
        {"authorization": "Bearer wp-" + "a" * 300 + "-b"},
        {"authorization": "Bearer wp-\u00fc\u00fc-\u00fc".encode("latin-1")},
        {"x-api-key": "wp-000000000000-AAAA"},
        {"api-key": "wp--"},
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/route", "/v1/feedback"])
async def test_a_stranger_is_refused_whatever_it_sends(stranger, headers, path):
    response = await stranger.post(path, json=BODY, headers=headers)

    assert_refused(response, 401, "invalid_api_key")


async def test_a_known_id_with_another_secret_is_refused(gateway, http):
    async with gateway.caller(gateway.key[:-1] + "~") as stranger:
        response = await stranger.post(CHAT, json=BODY)

    assert_refused(response, 401, "invalid_api_key")
    assert gateway.alpha.requests == []


async def test_a_key_that_has_expired_is_refused(gateway):
    store = KeyStore(gateway.engine)
    gone = datetime.now(UTC) - timedelta(seconds=1)
    key = store.create_key("default", "expired", expires_at=gone).secret.get_secret_value()

    async with gateway.caller(key) as http:
        response = await http.post(CHAT, json=BODY)

    assert_refused(response, 401, "invalid_api_key")
    assert "expired" in response.text


async def test_a_key_is_refused_soon_after_it_was_revoked(tmp_path):
    async with running_gateway(tmp_path, keys={"staleness_s": 0.02}) as gateway:
        gateway.alpha.answers = [json_answer(completion())]
        store = KeyStore(gateway.engine)
        new = store.create_key("default", "revoked")
        async with gateway.caller(new.secret.get_secret_value()) as http:
            before = await http.post(CHAT, json=BODY)
            store.revoke_key(new.info.id)
            after = before
            async with asyncio.timeout(PATIENCE_S):
                while after.status_code == 200:
                    after = await http.post(CHAT, json=BODY)

    assert before.status_code == 200
    assert_refused(after, 401, "invalid_api_key")
    assert "revoked" in after.text


async def test_a_key_that_does_not_admit_a_model_does_not_learn_of_it(gateway):
    store = KeyStore(gateway.engine)
    new = store.create_key("default", "narrow", allowed_models=["large"])

    async with gateway.caller(new.secret.get_secret_value()) as http:
        refused = await http.post(CHAT, json=BODY | {"model": SMALL})
        listed = await http.get("/v1/models")

    assert_refused(refused, 404, "model_not_found", "model")
    assert SMALL not in [model["id"] for model in listed.json()["data"]]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", CHAT, 405),
        ("DELETE", CHAT, 405),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/completions", 405),
        ("POST", "/v1/moderations", 404),
        ("GET", "/", 404),
        ("GET", "/admin/keys", 404),
        ("GET", "/metrics", 404),
    ],
)
async def test_a_path_or_method_that_is_not_there_is_refused_in_openais_shape(
    http, method, path, status
):
    response = await http.request(method, path)

    assert_refused(response, status, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": "req_1"},
        {"id": "", "score": 1},
        {"id": "req_1", "score": -0.1},
        {"id": "req_1", "score": "good"},
        {"id": "req_1", "score": 1, "grade": 1},
        {"id": ["req_1"], "score": 1},
        {"id": "req_1", "score": 1, "comment": "x" * 5000},
        [],
        "good",
    ],
)
async def test_feedback_of_another_form_is_refused(http, body):
    response = await http.post("/v1/feedback", json=body)

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_request"


async def test_feedback_that_is_no_json_is_refused(http):
    response = await http.post("/v1/feedback", content=b"{")

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_request"


async def test_json_that_can_be_read_but_not_written_is_refused(http):
    raw = b'{"model":"small","messages":[{"role":"user","content":"x"}],"x":%b%b}'

    response = await http.post(CHAT, content=raw % (b"[" * 500, b"]" * 500))

    assert_refused(response, 400, "invalid_request")


async def test_a_path_with_a_slash_too_many_is_not_redirected(http):
    response = await http.post(f"{CHAT}/", json=BODY)

    assert_refused(response, 404, "not_found")
