"""Whatever goes wrong, no key, no provider's key and no word of a prompt or answer is logged."""

import io
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import orjson
import pytest

from gateway.endpoints.access import CHAT_PATH
from gateway.settings.config import ServerSettings
from gateway.telemetry.log_lines import formatter_of
from tests.fakes.gateway import ALPHA_KEY, RunningGateway, running_gateway
from tests.fakes.upstream import (
    Answer,
    chunk,
    completion,
    error_answer,
    event,
    json_answer,
    stream_answer,
)

CHAT = "/v1/chat/completions"
PROMPT = "marked-prompt-5f2a"
ANSWER = "marked-answer-9c1d"
STRANGER = "wp-marked-stranger-77aa"
REDIS_PASSWORD = "marked-redis-password"
HEADERS = {"traceparent": PROMPT, "x-waypost-task": PROMPT, "user-agent": PROMPT}
BODY: dict[str, Any] = {
    "model": "auto",
    "messages": [{"role": "user", "content": PROMPT}],
    "user": PROMPT,
    "metadata": {PROMPT: PROMPT},
}
ECHO = f"You said {PROMPT} with {ALPHA_KEY}; I say {ANSWER}"
ERROR_IN_STREAM = event({"error": {"message": ECHO, "type": "server_error", "code": PROMPT}})
UPSTREAM_ANSWERS = [
    *(error_answer(status, ECHO, code=ECHO) for status in (302, 400, 401, 403, 404, 429, 500)),
    json_answer({"error": {"message": ECHO, "type": ECHO}}),
    json_answer({"detail": ECHO}, 422),
    json_answer([ECHO]),
    Answer((ECHO.encode(),)),
    Answer((ECHO.encode(),), announced_length=10_000, cuts_off=True),
    Answer((chunk({"content": ECHO}), ERROR_IN_STREAM)),
    Answer((ERROR_IN_STREAM,)),
    Answer((chunk({"content": ECHO}),), cuts_off=True),
    Answer((b"data: " + ECHO.encode() + b"\n\n",)),
    Answer((ECHO.encode(),), headers={"content-type": ECHO}),
    json_answer(completion(ECHO, usage={"prompt_tokens": ECHO})),
    stream_answer(ANSWER),
]
BAD_BODIES = [
    b"{" + PROMPT.encode(),
    orjson.dumps([PROMPT]),
    orjson.dumps(BODY | {"model": PROMPT}),
    orjson.dumps(BODY | {"messages": PROMPT}),
    orjson.dumps(BODY | {"messages": [{"role": PROMPT, "content": {PROMPT: PROMPT}}]}),
    orjson.dumps(BODY | {"waypost": {PROMPT: PROMPT}}),
    orjson.dumps(BODY | {"waypost": {"router_version": PROMPT}}),
    orjson.dumps(BODY | {"max_tokens": PROMPT}),
    orjson.dumps(BODY | {"stream": PROMPT}),
    orjson.dumps(BODY | {"x": PROMPT * 100_000}),
]


@pytest.fixture(params=["text", "json"])
def log(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """All that this process logs, as `waypost serve` would write it, debug level included."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter_of(ServerSettings(log_format=request.param)))
    # The test's own client tells which addresses it asks; the gateway has another one.
    handler.addFilter(lambda record: not record.name.startswith(("httpx", "httpcore")))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield written
    root.setLevel(level)
    root.removeHandler(handler)


@pytest.fixture
async def gateway(tmp_path, log) -> AsyncIterator[RunningGateway]:
    redis = f"redis://:{REDIS_PASSWORD}@127.0.0.1:1/0"
    budgets = {"store": "redis", "redis_url": redis, "when_store_is_down": "open"}
    server = {
        "port": 0,
        "admin_port": 0,
        "max_body_bytes": 1_000_000,
        "log_format": "json",
    }
    limits = {"idle_timeout_s": 0.5, "first_byte_timeout_s": 0.5}
    async with running_gateway(tmp_path, server=server, budgets=budgets, limits=limits) as running:
        yield running


async def test_no_error_path_logs_a_secret(gateway, log):
    statuses = await send_everything(gateway)

    assert {200, 400, 401, 404, 413} <= statuses
    assert_clean(log, gateway)


async def test_not_even_a_bug_of_our_own_does(gateway, log, monkeypatch):
    async def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError(f"{PROMPT} {gateway.key}")

    routing = gateway.app.public.turns[CHAT_PATH].service.routing
    monkeypatch.setattr(type(routing), "predict", broken)
    async with gateway.caller() as http:
        answer = await http.post(CHAT, json=BODY)

    assert answer.status_code == 500
    assert "a chat request failed for an unexpected reason" in log.getvalue()
    assert "RuntimeError" in log.getvalue()
    assert_clean(log, gateway)


async def send_everything(gateway: RunningGateway) -> set[int]:
    """Have everything go wrong that can; returns the statuses that came back."""
    statuses: set[int] = set()

    async def note(sending: Any) -> None:
        statuses.add((await sending).status_code)

    async with gateway.caller() as http:
        for answer in UPSTREAM_ANSWERS:
            gateway.alpha.answers = gateway.beta.answers = [answer]
            await note(http.post(CHAT, json=BODY, headers=HEADERS))
            await note(http.post(CHAT, json=BODY | {"stream": True}, headers=HEADERS))
        for body in BAD_BODIES:
            await note(http.post(CHAT, content=body, headers=HEADERS))
            await note(http.post("/v1/route", content=body, headers=HEADERS))
        await note(http.post("/v1/feedback", json={"id": PROMPT, "score": 1, "comment": PROMPT}))
        await note(http.post("/v1/feedback", json={"id": PROMPT, "score": PROMPT}))
        await note(http.get(f"/v1/models/{PROMPT}?api_key={gateway.key}"))
        await note(http.get(f"/v1/{PROMPT}/{gateway.key}"))
        await note(http.request(PROMPT.upper(), "/v1/models"))
    async with gateway.caller(STRANGER) as http:
        await note(http.post(CHAT, json=BODY))
        await note(http.get("/v1/models"))
    transport = httpx2.ASGITransport(gateway.app.admin)
    async with httpx2.AsyncClient(transport=transport, base_url="http://admin") as operator:
        await note(operator.get("/admin/keys", headers={"authorization": f"Bearer {STRANGER}"}))
    return statuses


def assert_clean(log: io.StringIO, gateway: RunningGateway) -> None:
    written = log.getvalue()
    assert written
    marks = (PROMPT, ANSWER, STRANGER, REDIS_PASSWORD, ALPHA_KEY, gateway.key)
    found = [line for line in written.splitlines() if any(m in line for m in marks)]
    assert found == []
