"""What a model refused once, its next requests do not run into for a while."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from gateway.access.keys import KeyStore
from tests.fakes.gateway import CLAUDE, LARGE, PRICE, SMALL, RunningGateway, running_gateway
from tests.fakes.messages import VERSION
from tests.fakes.upstream import (
    Answer,
    anthropic_error,
    anthropic_message,
    completion,
    error_answer,
    json_answer,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
BOTH = {"willingness_to_pay_usd": 1.0, "models": [SMALL, LARGE]}
NEWEST = "newest"
SHORT = [{"role": "user", "content": "Say hello."}]
LONG = [{"role": "user", "content": "Say hello. " * 400}]
LONGER = [{"role": "user", "content": "Say hello. " * 500}]


def models() -> dict[str, Any]:
    hosted = {
        SMALL: ("alpha", "a"),
        LARGE: ("beta", "b"),
        CLAUDE: ("gamma", "claude-sonnet-4-5"),
        NEWEST: ("gamma", "claude-sonnet-4-6"),
    }
    return {
        name: {"provider": host, "upstream_name": up, "price": PRICE}
        for name, (host, up) in hosted.items()
    }


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(tmp_path: Any) -> AsyncIterator[RunningGateway]:
    """A gateway that has learned nothing, and whose router prefers the small model."""
    async with running_gateway(tmp_path, profiles={"both": BOTH}, models=models()) as running:
        for upstream in (running.alpha, running.beta):
            upstream.answers = [json_answer(completion())]
        running.gamma.answers = [json_answer(anthropic_message())]
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def http(gateway: RunningGateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with gateway.caller() as client:
        yield client


async def server_of(http: httpx2.AsyncClient, messages: Any, **body: Any) -> str:
    """Ask, and say which model served."""
    answer = await http.post(CHAT, json={"model": "both", "messages": messages, **body})
    assert answer.status_code == 200
    return str(answer.headers["x-waypost-model"])


TOO_LONG = {
    "a code": error_answer(400, "too long", code="context_length_exceeded", param="messages"),
    "words": error_answer(400, "This model's maximum context length is 512 tokens. However, you"),
    "a status": error_answer(413, "too large"),
}


@pytest.mark.parametrize("refusal", TOO_LONG.values(), ids=TOO_LONG.keys())
async def test_a_model_that_found_a_prompt_too_long_is_passed_over_for_such_prompts(
    gateway: RunningGateway, http: httpx2.AsyncClient, refusal: Answer
) -> None:
    gateway.alpha.answers.insert(0, refusal)
    assert await server_of(http, LONG) == LARGE
    asked = len(gateway.alpha.requests)

    assert await server_of(http, LONG) == LARGE
    assert await server_of(http, LONGER, stream=False) == LARGE
    assert len(gateway.alpha.requests) == asked
    route = (await http.post("/v1/route", json={"model": "both", "messages": LONGER})).json()
    verdicts = {one["model"]: one["verdict"] for one in route["candidates"]}
    assert verdicts == {SMALL: "context_may_be_too_long", LARGE: "ok"}

    assert await server_of(http, SHORT) == SMALL


async def test_where_all_found_a_prompt_too_long_they_are_asked_again(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    gateway.alpha.answers.insert(0, TOO_LONG["a code"])
    gateway.beta.answers.insert(0, TOO_LONG["words"])
    assert (await http.post(CHAT, json={"model": "both", "messages": LONG})).status_code == 400
    assert await server_of(http, LONG) == SMALL


async def test_a_prompt_that_one_team_had_refused_changes_nothing_for_another(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    store = KeyStore(gateway.engine)
    store.create_team("neighbour")
    key = store.create_key("neighbour", "other").secret.get_secret_value()
    gateway.alpha.answers.insert(0, TOO_LONG["a code"])
    assert await server_of(http, LONG) == LARGE
    async with gateway.caller(key) as theirs:
        assert await server_of(theirs, LONG) == SMALL


REFUSED_BY_CLAUDE = {
    "deprecated": ("temperature", 0.5, "`temperature` is deprecated for this model."),
    "unknown": ("top_k", 4, "top_k: Extra inputs are not permitted"),
}


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize("case", REFUSED_BY_CLAUDE.values(), ids=REFUSED_BY_CLAUDE.keys())
async def test_what_claude_refuses_is_left_out_and_remembered_on_every_wire(
    gateway: RunningGateway, http: httpx2.AsyncClient, path: str, case: Any
) -> None:
    field, value, words = case
    gateway.gamma.answers.insert(0, anthropic_error(400, words, "invalid_request_error"))
    body = {"model": CLAUDE, "max_tokens": 9, "messages": SHORT, field: value}
    for _ in range(2):
        answer = await http.post(path, json=body, headers=VERSION)
        assert (answer.status_code, answer.headers["x-waypost-dropped"]) == (200, field)
    assert [field in one.body for one in gateway.gamma.requests] == [True, False, False]


SIGNED = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "1"}
THOUGHT = [
    *SHORT,
    {"role": "assistant", "content": [SIGNED, CALL]},
    {"role": "user", "content": [RESULT]},
]
TOOL = {"name": "f", "input_schema": {"type": "object"}}
FOREIGN = {
    "another model's": "messages.1.content.0: Invalid `signature` in `thinking` block",
    "another conversation's": (
        "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a "
        "different conversation."
    ),
    "changed": (
        "messages.1.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant "
        "message cannot be modified."
    ),
}


@pytest.mark.parametrize("thinking", [{"type": "adaptive"}, {"type": "enabled"}, None])
@pytest.mark.parametrize("words", FOREIGN.values(), ids=FOREIGN.keys())
async def test_thoughts_that_a_model_does_not_take_back_are_left_out(
    gateway: RunningGateway, http: httpx2.AsyncClient, words: str, thinking: Any
) -> None:
    gateway.gamma.answers.insert(0, anthropic_error(400, words, "invalid_request_error"))
    body: dict[str, Any] = {"model": CLAUDE, "max_tokens": 4000, "tools": [TOOL]}
    if thinking is not None:
        name = NEWEST if thinking["type"] == "adaptive" else CLAUDE
        tokens = {"budget_tokens": 2000} if thinking["type"] == "enabled" else {}
        body |= {"model": name, "thinking": {**thinking, **tokens}}

    answer = await http.post(MESSAGES, json={**body, "messages": THOUGHT}, headers=VERSION)

    assert (answer.status_code, answer.headers["x-waypost-dropped"]) == (200, "thinking")
    first, second = (one.body for one in gateway.gamma.requests)
    assert first["messages"][1]["content"] == [SIGNED, CALL]
    assert second["messages"][1]["content"] == [CALL]
    # Under a token budget Claude wants to see what it thought before its calls.
    is_budgeted = thinking is not None and thinking["type"] == "enabled"
    assert ("thinking" in second) == (thinking is not None and not is_budgeted)


async def test_a_model_that_takes_no_thoughts_back_at_all_is_not_asked_for_ever(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    words = FOREIGN["another model's"]
    gateway.gamma.answers = [anthropic_error(400, words, "invalid_request_error")]
    body = {"model": CLAUDE, "max_tokens": 9, "tools": [TOOL], "messages": THOUGHT}
    answer = await http.post(MESSAGES, json=body, headers=VERSION)
    assert (answer.status_code, len(gateway.gamma.requests)) == (400, 2)
