"""Requests that one model cannot take are made fit for it, or served by another."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio

from gateway.access.keys import KeyStore
from tests.fakes.gateway import CLAUDE, LARGE, PRICE, SMALL, RunningGateway, running_gateway
from tests.fakes.upstream import (
    Answer,
    anthropic_error,
    anthropic_message,
    anthropic_stream_chunks,
    completion,
    error_answer,
    json_answer,
    stream_answer,
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("wire choice"),  # one gateway
]

CHAT = "/v1/chat/completions"
REASONER = "reasoner"
NEWEST = "newest"
MISTRAL = "mistral"
HELLO = [{"role": "user", "content": "Say hello."}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CUSTOM_TOOL = {"type": "custom", "custom": {"name": "write"}}
BUDGET = {"x-waypost-conversation-id": "c1", "x-waypost-turn-budget": "9000"}


def models() -> dict[str, dict[str, Any]]:
    hosted = {
        CLAUDE: ("gamma", "claude-sonnet-4-5"),
        NEWEST: ("gamma", "claude-opus-4-7"),
        REASONER: ("alpha", "gpt-5-mini"),
        MISTRAL: ("delta", "mistral-large-latest"),
        LARGE: ("beta", "some-model"),
        SMALL: ("alpha", "gpt-4o-mini"),
    }
    sees = {"vision": True, "tools": True, "json_schema": True}
    return {
        name: {"provider": host, "upstream_name": up, "price": PRICE, "capabilities": sees}
        for name, (host, up) in hosted.items()
    }


PROFILES = {
    "claude-first": {"willingness_to_pay_usd": 1.0, "models": [CLAUDE, LARGE]},
    "newest-first": {"willingness_to_pay_usd": 1.0, "models": [NEWEST, LARGE]},
    "reasoner-first": {"willingness_to_pay_usd": 1.0, "models": [REASONER, LARGE]},
    "mistral-first": {"willingness_to_pay_usd": 1.0, "models": [MISTRAL, LARGE]},
    "unknown-first": {"willingness_to_pay_usd": 1.0, "models": [LARGE, SMALL]},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("wire")
    async with running_gateway(
        folder,
        keeps_store=True,  # no router: the first model that can answer does
        also={"delta": {"catalogue": "mistral"}},
        models=models(),
        profiles=PROFILES,
        routing={
            "encoder": "static",
            "artifact_poll_s": 60,
            "default_model": CLAUDE,
            "prior": False,
        },
    ) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: RunningGateway) -> RunningGateway:
    """The gateway, whose upstreams answer and have seen nothing."""
    running.upstreams.reset()
    return running


@pytest_asyncio.fixture(loop_scope="session")
async def http(running: RunningGateway) -> AsyncIterator[httpx2.AsyncClient]:
    """A caller of a team that has seen no refusal yet."""
    store, team = KeyStore(running.engine), f"team-{uuid4().hex}"
    store.create_team(team)
    async with running.caller(store.create_key(team, "k").secret.get_secret_value()) as client:
        yield client


def ready(gateway: RunningGateway, *, is_stream: bool) -> None:
    """Let every upstream answer."""
    plain = stream_answer() if is_stream else json_answer(completion())
    claude = (
        Answer(tuple(anthropic_stream_chunks())) if is_stream else json_answer(anthropic_message())
    )
    for name in ("alpha", "beta", "delta"):
        gateway.upstreams.by_name[name].answers = [plain]
    gateway.gamma.answers = [claude]


async def ask(http: httpx2.AsyncClient, headers: dict[str, str] | None = None, **body: Any) -> Any:
    return await http.post(CHAT, json={"messages": HELLO, **body}, headers=headers or {})


IMAGE = {"type": "image_url", "image_url": {"url": "http://example.org/a.png"}}
NOT_FOR_CLAUDE: dict[str, tuple[dict[str, Any], str]] = {
    "several choices": ({"n": 2}, "no_n"),
    "logprobs": ({"logprobs": True}, "no_logprobs"),
    "top_logprobs": ({"logprobs": True, "top_logprobs": 3}, "no_logprobs"),
    "logit_bias": ({"logit_bias": {"50256": -100}}, "no_logit_bias"),
    "functions": ({"functions": [{"name": "f", "parameters": {}}]}, "no_functions"),
    "custom tool": ({"tools": [TOOL, CUSTOM_TOOL]}, "no_custom_tools"),
    "http image": ({"messages": [{"role": "user", "content": [IMAGE]}]}, "no_linked_images"),
    "system only": ({"messages": [{"role": "system", "content": "Hi."}]}, "no_system_only"),
    "empty query": ({"messages": [{"role": "user", "content": ""}]}, "no_system_only"),
    "blank query": ({"messages": [{"role": "user", "content": " \n"}]}, "no_system_only"),
    "blank part": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]},
        "no_system_only",
    ),
    "longest answer": ({"max_tokens": 64_001}, "output_too_long"),
}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("headers", [{}, BUDGET], ids=["no budget", "budget"])
@pytest.mark.parametrize("case", NOT_FOR_CLAUDE.values(), ids=NOT_FOR_CLAUDE.keys())
async def test_what_claude_has_no_form_for_is_served_by_another_model(
    gateway: RunningGateway, http: httpx2.AsyncClient, case: Any, headers: Any, *, is_stream: bool
) -> None:
    body, verdict = case
    ready(gateway, is_stream=is_stream)
    answer = await ask(http, headers, model="claude-first", stream=is_stream, **body)
    assert (answer.status_code, answer.headers["x-waypost-model"]) == (200, LARGE)
    assert not gateway.gamma.requests
    body = {"model": "claude-first", "messages": HELLO, **body}
    route = (await http.post("/v1/route", json=body, headers=headers)).json()
    assert {one["model"]: one["verdict"] for one in route["candidates"]}[CLAUDE] == verdict


NOT_FOR_NEW_CLAUDE = {
    "prefill": {"messages": [*HELLO, {"role": "assistant", "content": "Hel"}]},
}


@pytest.mark.parametrize("case", NOT_FOR_NEW_CLAUDE.values(), ids=NOT_FOR_NEW_CLAUDE.keys())
async def test_what_new_claude_models_refuse_is_served_by_another_model(
    gateway: RunningGateway, http: httpx2.AsyncClient, case: Any
) -> None:
    ready(gateway, is_stream=False)
    assert (await ask(http, model="newest-first", **case)).headers["x-waypost-model"] == LARGE
    assert (await ask(http, model="claude-first", **case)).headers["x-waypost-model"] == CLAUDE


NO_FORM = {
    "arguments that are no JSON": [
        *HELLO,
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ],
    "a file by its id": [
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}
    ],
    "an unknown role": [*HELLO, {"role": "function", "name": "f", "content": "1"}],
    "a picture of another kind": [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "data:image/bmp;base64,AA"}}],
        }
    ],
}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("messages", NO_FORM.values(), ids=NO_FORM.keys())
async def test_what_only_the_translation_finds_is_served_by_another_model_too(
    gateway: RunningGateway, http: httpx2.AsyncClient, messages: Any, *, is_stream: bool
) -> None:
    ready(gateway, is_stream=is_stream)
    answer = await ask(http, model="claude-first", messages=messages, stream=is_stream)
    assert (answer.status_code, answer.headers["x-waypost-model"]) == (200, LARGE)
    named = await ask(http, model=CLAUDE, messages=messages, stream=is_stream)
    assert named.status_code == 400
    assert named.json()["error"]["code"] == "unsupported_parameter"


MADE_FIT: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "old name of the limit": (REASONER, {"max_tokens": 50}, {"max_completion_tokens": 50}, ""),
    "new name of the limit": (
        REASONER,
        {"max_completion_tokens": 5},
        {"max_completion_tokens": 5},
        "",
    ),
    "a host that knows the old name": (
        MISTRAL,
        {"max_completion_tokens": 5},
        {"max_tokens": 5},
        "",
    ),
    "any other host": (LARGE, {"max_completion_tokens": 5}, {"max_completion_tokens": 5}, ""),
    "temperature": (REASONER, {"temperature": 0}, {}, "temperature"),
    "the only temperature": (REASONER, {"temperature": 1.0}, {}, ""),
    "all sampling": (
        REASONER,
        {"temperature": 0.2, "top_p": 0.9, "presence_penalty": 1, "frequency_penalty": 0},
        {},
        "presence_penalty, temperature, top_p",
    ),
    "an ordinary model": (
        SMALL,
        {"temperature": 0, "top_p": 0.9},
        {"temperature": 0, "top_p": 0.9},
        "",
    ),
    "seed for Claude": (CLAUDE, {"seed": 7, "max_tokens": 9}, {"max_tokens": 9}, "seed"),
    "sampling for new Claude models": (
        NEWEST,
        {"temperature": 0.5, "max_completion_tokens": 9},
        {"max_tokens": 9},
        "temperature",
    ),
}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("case", MADE_FIT.values(), ids=MADE_FIT.keys())
async def test_a_request_is_made_fit_for_its_model_and_what_was_left_out_is_said(
    gateway: RunningGateway, http: httpx2.AsyncClient, case: Any, *, is_stream: bool
) -> None:
    model, fields, sent, dropped = case
    ready(gateway, is_stream=is_stream)
    answer = await ask(http, model=model, stream=is_stream, **fields)
    assert answer.status_code == 200
    assert answer.headers.get("x-waypost-dropped", "") == dropped
    (received,) = [r for up in gateway.upstreams.by_name.values() for r in up.requests]
    plain = {"model", "messages", "stream", "stream_options"}
    assert {name: value for name, value in received.body.items() if name not in plain} == sent


TOO_LONG = {
    "OpenAI": error_answer(400, "too long", code="context_length_exceeded", param="messages"),
    "Anthropic's words": error_answer(
        400, "prompt is too long: 250000 tokens > 200000 maximum", type="invalid_request_error"
    ),
    "vLLM": error_answer(
        400, "This model's maximum context length is 4096 tokens. However, you", code=400
    ),
    "OpenRouter": error_answer(
        400, "This endpoint's maximum context length is 8192 tokens. However", code=400
    ),
    "llama.cpp": error_answer(400, "the request exceeds", type="exceed_context_size_error"),
    "a body too large": error_answer(413, "too large", type="request_too_large"),
    "a value": error_answer(400, "no", code="unsupported_value", param="reasoning_effort"),
    "a parameter": error_answer(400, "no", code="unsupported_parameter", param="tools"),
    "in the stream": Answer(
        (b'data: {"error":{"code":"context_length_exceeded","message":"too long"}}\n\n',)
    ),
}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("refusal", TOO_LONG.values(), ids=TOO_LONG.keys())
async def test_a_refusal_that_is_about_the_model_makes_the_next_one_try(
    gateway: RunningGateway, http: httpx2.AsyncClient, refusal: Answer, *, is_stream: bool
) -> None:
    ready(gateway, is_stream=is_stream)
    gateway.beta.answers = [refusal]
    answer = await ask(http, model="unknown-first", stream=is_stream)
    assert (answer.status_code, answer.headers["x-waypost-model"]) == (200, SMALL)
    assert len(gateway.beta.requests) == 1
    row = await gateway.turn(answer.headers["x-request-id"])
    assert (row.attempts, row.given_up_nusd) == (2, 0)


async def test_claudes_refusal_makes_the_next_one_try(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    ready(gateway, is_stream=False)
    words = "prompt is too long: 210000 tokens > 200000 maximum"
    gateway.gamma.answers = [anthropic_error(400, words, "invalid_request_error")]
    answer = await ask(http, model="claude-first")
    assert (answer.status_code, answer.headers["x-waypost-model"]) == (200, LARGE)
    named = await ask(http, model=CLAUDE)
    assert (named.status_code, named.json()["error"]["message"]) == (400, words)


CALLERS_FAULT = {
    "malformed": error_answer(400, "Invalid type for 'messages'.", code="invalid_type"),
    "quoted": error_answer(400, "bad role: prompt is too long: 2 tokens > 1 maximum"),
    "quoted code": error_answer(400, '{"code": "context_length_exceeded"}'),
}


@pytest.mark.parametrize("refusal", CALLERS_FAULT.values(), ids=CALLERS_FAULT.keys())
async def test_a_refusal_that_is_about_the_request_is_the_callers(
    gateway: RunningGateway, http: httpx2.AsyncClient, refusal: Answer
) -> None:
    ready(gateway, is_stream=False)
    gateway.beta.answers = [refusal]
    assert (await ask(http, model="unknown-first")).status_code == 400
    assert not gateway.alpha.requests


def refuses(field: str, code: str = "unsupported_parameter") -> Answer:
    return error_answer(400, f"'{field}' is not supported", code=code, param=field)


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "refusal", "sent"),
    [
        ({"max_tokens": 9}, refuses("max_tokens"), {"max_completion_tokens": 9}),
        ({"max_completion_tokens": 9}, refuses("max_completion_tokens"), {"max_tokens": 9}),
        ({"temperature": 0}, refuses("temperature", "unsupported_value"), {}),
        ({"top_k": 4}, refuses("top_k", "unknown_parameter"), {}),
    ],
    ids=["old name", "new name", "value", "unknown"],
)
async def test_what_a_model_refuses_is_left_out_and_remembered(
    tmp_path: Any, fields: Any, refusal: Answer, sent: Any, *, is_stream: bool
) -> None:
    names = {"model", "messages", "stream", "stream_options"}
    async with running_gateway(tmp_path) as gateway, gateway.caller() as http:
        ready(gateway, is_stream=is_stream)
        gateway.beta.answers.insert(0, refusal)
        for _ in range(2):
            answer = await ask(http, model=LARGE, stream=is_stream, **fields)
            assert answer.status_code == 200
        seen = [
            {name: value for name, value in one.body.items() if name not in names}
            for one in gateway.beta.requests
        ]
    assert seen == [fields, sent, sent]


async def test_what_one_team_learns_changes_nothing_for_another(tmp_path: Any) -> None:
    async with running_gateway(tmp_path) as gateway:
        store = KeyStore(gateway.engine)
        store.create_team("neighbour")
        other = store.create_key("neighbour", "other").secret.get_secret_value()
        async with gateway.caller() as http, gateway.caller(other) as theirs:
            ready(gateway, is_stream=False)
            gateway.beta.answers.insert(0, refuses("temperature"))
            await ask(http, model=LARGE, temperature=0)
            await ask(theirs, model=LARGE, temperature=0)
        assert gateway.beta.last.body["temperature"] == 0


async def test_a_field_that_an_answer_cannot_do_without_makes_the_filter_wiser(
    tmp_path: Any,
) -> None:
    profile = {"willingness_to_pay_usd": 1.0, "models": [LARGE, SMALL]}
    async with (
        running_gateway(tmp_path, profiles={"both": profile}) as gateway,
        gateway.caller() as http,
    ):
        ready(gateway, is_stream=False)
        gateway.alpha.answers = [refuses("logprobs")]
        for _ in range(2):
            answer = await ask(http, model="both", logprobs=True)
            assert answer.headers["x-waypost-model"] == LARGE
        assert len(gateway.alpha.requests) == 1


async def test_a_model_that_refuses_everything_is_not_asked_for_ever(tmp_path: Any) -> None:
    async with running_gateway(tmp_path) as gateway, gateway.caller() as http:
        gateway.beta.answers = [refuses("temperature")]
        answer = await ask(http, model=LARGE, temperature=0)
        assert (answer.status_code, len(gateway.beta.requests)) == (400, 2)


async def test_no_refusal_that_a_caller_can_provoke_pauses_a_model(tmp_path: Any) -> None:
    limits = {"breaker_failures": 1}
    async with running_gateway(tmp_path, limits=limits) as gateway, gateway.caller() as http:
        for refusal in (*TOO_LONG.values(), *CALLERS_FAULT.values(), refuses("temperature")):
            gateway.beta.answers = [refusal]
            statuses = [
                (await ask(http, model=LARGE, stream=is_stream, temperature=0)).status_code
                for is_stream in (False, True)
            ]
            assert set(statuses) <= {400, 413}
        ready(gateway, is_stream=False)
        assert (await ask(http, model=LARGE)).status_code == 200
