"""Answers in another form than was asked for, or compressed, are answers all the same."""

import gzip
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import orjson
import pytest
import pytest_asyncio

from tests.fakes.asked import ask, stream, text_of
from tests.fakes.gateway import CLAUDE, SMALL, RunningGateway, running_gateway
from tests.fakes.upstream import (
    EVENTS,
    JSON,
    Answer,
    anthropic_message,
    anthropic_stream_chunks,
    chunk,
    completion,
    error_answer,
    json_answer,
    stream_answer,
    stream_chunks,
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("wire forms"),  # one gateway
]

SILENCE_S = 0.5
BREAKER_FAILURES = 3
LIMITS = {"max_retries": 2, "breaker_failures": BREAKER_FAILURES, "idle_timeout_s": SILENCE_S}
PATIENT = {"beta": {"breaker_failures": 1000}}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "f", "arguments": '{"a":1}'},
}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("wire")
    async with running_gateway(folder, limits=LIMITS, also=PATIENT) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: RunningGateway) -> RunningGateway:
    """The gateway, whose upstreams have seen nothing."""
    running.upstreams.reset()
    return running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def http(running: RunningGateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with running.caller() as client:
        yield client


# --- one form asked for, the other one given


WHOLE: dict[str, tuple[str, dict[str, Any]]] = {
    "OpenAI": (SMALL, completion("Hello!")),
    "Anthropic": (CLAUDE, anthropic_message("Hello!")),
}


@pytest.mark.parametrize(("model", "body"), WHOLE.values(), ids=WHOLE.keys())
async def test_a_whole_answer_to_a_stream_becomes_chunks_after_one_call(
    gateway: RunningGateway, http: httpx2.AsyncClient, model: str, body: Any
) -> None:
    gateway.alpha.answers = gateway.gamma.answers = [json_answer(body)]
    events = await stream(http, model)
    assert (text_of(events), events[-1]) == ("Hello!", "[DONE]")
    usage = events[-2]
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 12)
    assert [e["choices"][0]["finish_reason"] for e in events[:-2]] == [None, "stop"]
    assert len(gateway.alpha.requests) + len(gateway.gamma.requests) == 1


async def test_tool_calls_choices_and_logprobs_of_a_whole_answer_become_chunks(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    choices = [
        {
            "index": 0,
            "message": CALLING,
            "finish_reason": "tool_calls",
            "logprobs": {"content": []},
        },
        {"index": 1, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"},
    ]
    gateway.alpha.answers = [json_answer(completion(choices=choices))]
    events = await stream(http, n=2)
    first = events[0]["choices"][0]
    assert first["delta"]["tool_calls"] == [{"index": 0, **CALL}]
    assert first["logprobs"] == {"content": []}
    assert [e["choices"][0]["index"] for e in events[:-2]] == [0, 0, 1, 1]


async def test_an_error_in_a_whole_answer_to_a_stream_is_no_answer(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    gateway.alpha.answers = [error_answer(200, "no such thing", code=400)]
    answer = await ask(http, stream=True)
    assert answer.status_code == 400
    assert len(gateway.alpha.requests) == 1


STREAMED: dict[str, tuple[str, Any]] = {
    "OpenAI": (SMALL, stream_chunks("Hello!")),
    "Anthropic": (CLAUDE, anthropic_stream_chunks("Hello!")),
    "with a comment first": (SMALL, [b": hi\n\n", *stream_chunks("Hello!")]),
}


@pytest.mark.parametrize("headers", [EVENTS, JSON], ids=["said", "not said"])
@pytest.mark.parametrize(("model", "pieces"), STREAMED.values(), ids=STREAMED.keys())
async def test_a_stream_that_nobody_asked_for_is_gathered(
    gateway: RunningGateway, http: httpx2.AsyncClient, model: str, pieces: Any, headers: Any
) -> None:
    gateway.alpha.answers = gateway.gamma.answers = [Answer(tuple(pieces), headers=headers)]
    answer = await ask(http, model)
    body = answer.json()
    assert (answer.status_code, body["object"]) == (200, "chat.completion")
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello!"}
    assert (choice["finish_reason"], body["usage"]["total_tokens"]) == ("stop", 12)


async def test_tool_calls_of_a_stream_are_gathered(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    def piece(index: int, **fields: Any) -> bytes:
        return chunk({"tool_calls": [{"index": index, **fields}]})

    pieces = (
        chunk({"role": "assistant", "content": None, "reasoning_content": "Hm"}),
        piece(0, id="a", type="function", function={"name": "f", "arguments": '{"a"'}),
        piece(1, id="b", function={"name": "g", "arguments": ""}),
        piece(0, function={"arguments": ":1}"}),
        chunk({"reasoning_content": "m."}),
        chunk({}, "tool_calls"),
    )
    gateway.alpha.answers = [Answer(pieces)]
    (choice,) = (await ask(http)).json()["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Hmm.",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
        ],
    }
    assert choice["finish_reason"] == "tool_calls"


async def test_a_stream_that_nobody_asked_for_and_that_breaks_off_is_an_error(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    gateway.alpha.answers = [Answer((chunk({"content": "Hel"}),)), json_answer(completion())]
    answer = await ask(http)
    assert answer.status_code in (200, 502)  # tried again, or said
    gateway.alpha.answers = [Answer((b": nothing\n\n", b"data: [DONE]\n\n"))]
    assert (await ask(http)).json()["error"]["code"] == "provider_unavailable"


# --- compressed although `identity` was asked for

COMPRESSED = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "x-gzip": lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]),
}


def compressed(answer: Answer, encoding: str) -> Answer:
    body = COMPRESSED[encoding](b"".join(answer.chunks))
    pieces = tuple(body[i : i + 7] for i in range(0, len(body), 7))
    headers = {**answer.headers, "content-encoding": encoding}
    return replace(answer, chunks=pieces, headers=headers)


@pytest.mark.parametrize("encoding", COMPRESSED)
async def test_what_is_compressed_all_the_same_is_inflated(
    gateway: RunningGateway, http: httpx2.AsyncClient, encoding: str
) -> None:
    gateway.alpha.answers = [
        compressed(json_answer(completion("Hello!")), encoding),
        compressed(stream_answer("Hello!"), encoding),
        compressed(error_answer(400, "no such tool"), encoding),
    ]
    answer = await ask(http)
    assert answer.json()["choices"][0]["message"]["content"] == "Hello!"
    assert (await stream(http))[-1] == "[DONE]"
    refused = await ask(http)
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "no such tool")


BOMB = gzip.compress(b" " * 70_000_000)
GZIP = {"content-encoding": "gzip"}
BAD = {
    "a bomb": BOMB,
    "no gzip": b"Hello!",
    "half of it": gzip.compress(orjson.dumps(completion()))[:-9],
}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
async def test_what_cannot_be_inflated_is_the_providers_error(
    gateway: RunningGateway, http: httpx2.AsyncClient, body: bytes, *, is_stream: bool
) -> None:
    kind = EVENTS if is_stream else JSON
    gateway.beta.answers = [Answer((body,), headers={**kind, **GZIP})]
    answer = await ask(http, "large", stream=is_stream)
    assert answer.status_code in (502, 503)
    assert answer.json()["error"]["type"] == "provider_error"
