"""Answers that end oddly, or come in another form than was asked for, are whole all the same."""

import gzip
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import orjson
import pytest
import pytest_asyncio

from tests.fakes.gateway import CLAUDE, SMALL, RunningGateway, running_gateway
from tests.fakes.upstream import (
    EVENTS,
    JSON,
    Answer,
    anthropic_event,
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
    pytest.mark.xdist_group("wire answers"),  # one gateway
]

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Say hello."}]
SILENCE_S = 0.5
LIMITS = {"max_retries": 2, "breaker_failures": 3, "idle_timeout_s": SILENCE_S}
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


async def ask(http: httpx2.AsyncClient, model: str = SMALL, **body: Any) -> httpx2.Response:
    return await http.post(CHAT, json={"model": model, "messages": HELLO, **body})


async def stream(http: httpx2.AsyncClient, model: str = SMALL, **body: Any) -> list[Any]:
    """Return the decoded events of a stream; ``[DONE]`` as a string."""
    options = {"include_usage": True}
    answer = await ask(http, model, stream=True, stream_options=options, **body)
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (
        200,
        "text/event-stream",
    )
    payloads = [e[6:] for e in answer.content.split(b"\n\n") if e.startswith(b"data: ")]
    return ["[DONE]" if one == b"[DONE]" else orjson.loads(one) for one in payloads]


def text_of(events: list[Any]) -> str:
    chunks = [one for one in events if isinstance(one, dict) and one.get("choices")]
    return "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks)


# --- where an answer ends


async def test_an_empty_reason_to_finish_ends_nothing(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    gateway.alpha.answers = [Answer((chunk({"content": "Hel"}, ""), chunk({"content": "l"}, "")))]
    events = await stream(http)
    assert "[DONE]" not in events
    assert events[-1]["error"]["code"] == "provider_cut_off"


@pytest.mark.parametrize("reason", ["stop", "eos"])
async def test_a_reason_that_is_known_ends_a_choice(
    gateway: RunningGateway, http: httpx2.AsyncClient, reason: str
) -> None:
    pieces = (chunk({"content": "Hello!"}), chunk({}, reason))
    gateway.alpha.answers = [Answer(pieces)]
    assert (await stream(http))[-1] == "[DONE]"


SILENT = {
    SMALL: (chunk({"content": "Hello!"}), chunk({}, "stop")),
    CLAUDE: anthropic_stream_chunks()[:-1],
}


@pytest.mark.parametrize("model", SILENT)
async def test_silence_after_the_reason_to_finish_is_the_end(
    gateway: RunningGateway, http: httpx2.AsyncClient, model: str
) -> None:
    silent = Answer(tuple(SILENT[model]), stalls=True)
    gateway.alpha.answers = gateway.gamma.answers = [silent]
    for _ in range(LIMITS["breaker_failures"] + 1):
        events = await stream(http, model)
        assert (text_of(events), events[-1]) == ("Hello!", "[DONE]")


# --- usage


DETAILS = {
    "prompt_tokens": 9,
    "completion_tokens": 3,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 4},
}
FINISHING: dict[str, tuple[bytes, ...]] = {
    "in the finishing chunk": (chunk({"content": "Hi"}), chunk({}, "stop", usage=DETAILS)),
    "in every chunk": (
        chunk({"content": "Hi"}, usage={**DETAILS, "completion_tokens": 1}),
        chunk({}, "stop", usage=DETAILS),
    ),
    "there and in one of its own": (
        chunk({"content": "Hi"}),
        chunk({}, "stop", usage=DETAILS),
        chunk({}, usage=DETAILS, choices=[]),
    ),
}


@pytest.mark.parametrize("pieces", FINISHING.values(), ids=FINISHING.keys())
async def test_usage_comes_once_with_all_its_details(
    gateway: RunningGateway, http: httpx2.AsyncClient, pieces: tuple[bytes, ...]
) -> None:
    gateway.alpha.answers = [Answer((*pieces, b"data: [DONE]\n\n"))]
    events = await stream(http)
    told = [one for one in events[:-1] if one.get("usage")]
    assert [(one["choices"], one["usage"]) for one in told] == [([], DETAILS)]
    assert (text_of(events), events[-3]["choices"][0]["finish_reason"]) == ("Hi", "stop")


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


# --- the rest


async def test_the_input_of_a_tool_may_come_whole(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    pieces = anthropic_stream_chunks("")
    tool = {"type": "tool_use", "id": "t", "name": "f", "input": {"city": "Rome"}}
    block = (
        anthropic_event("content_block_start", index=1, content_block=tool),
        anthropic_event("content_block_stop", index=1),
    )
    gateway.gamma.answers = [Answer((*pieces[:-2], *block, *pieces[-2:]))]
    events = await stream(http, CLAUDE)
    calls = [c for e in events[:-2] for c in e["choices"][0]["delta"].get("tool_calls", [])]
    assert "".join(call["function"]["arguments"] for call in calls) == '{"city":"Rome"}'


ODD = {
    "half a character": (b"Hello!", b"Hel\\ud800"),
    "NaN": (b'"logprobs":null', b'"logprobs":{"content":[{"logprob":NaN}]}'),
    "minus infinity": (b'"logprobs":null', b'"logprobs":{"content":[{"logprob":-Infinity}]}'),
}


@pytest.mark.parametrize("model", [SMALL, CLAUDE])
@pytest.mark.parametrize(("old", "new"), ODD.values(), ids=ODD.keys())
async def test_what_is_no_json_is_replaced_and_pauses_nobody(
    gateway: RunningGateway, http: httpx2.AsyncClient, model: str, old: bytes, new: bytes
) -> None:
    body = completion("Hello!") if model == SMALL else anthropic_message("Hello!", logprobs=None)
    raw = orjson.dumps(body).replace(old, new)
    gateway.alpha.answers = gateway.gamma.answers = [Answer((raw,), headers=JSON)]
    for _ in range(LIMITS["breaker_failures"] + 1):
        answer = await ask(http, model)
        assert answer.status_code == 200
        assert answer.json()["choices"][0]["message"]["content"].startswith("Hel")


async def test_half_a_character_in_a_stream_of_claude_is_replaced(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    pieces = [
        piece.replace(b'"text":"l"', b'"text":"\\ud800"') for piece in anthropic_stream_chunks()
    ]
    gateway.gamma.answers = [Answer(tuple(pieces))]
    events = await stream(http, CLAUDE)
    assert (text_of(events), events[-1]) == ("He??o!", "[DONE]")


async def test_comments_that_come_long_before_the_first_event_are_passed_on(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    provider: Any = gateway.app.public.chat.service.providers["beta"]
    before, provider.timeouts = provider.timeouts, replace(provider.timeouts, comments_s=0.05)
    comments = [b": PROCESSING\n\n"] * 6
    try:
        gateway.beta.answers = [Answer((*comments, *stream_chunks()), pause_s=0.03)]
        arrived: list[bytes] = []
        body = {"model": "large", "messages": HELLO, "stream": True}
        async with http.stream("POST", CHAT, json=body) as answer:
            arrived = [piece async for piece in answer.aiter_bytes()]
    finally:
        provider.timeouts = before
    assert arrived[0].startswith(b": PROCESSING")
    assert b"Hello" not in arrived[0].replace(b"\n", b"")
    assert b"".join(arrived).endswith(b"data: [DONE]\n\n")


async def test_an_error_soon_after_comments_leaves_the_way_to_another_model(
    gateway: RunningGateway, http: httpx2.AsyncClient
) -> None:
    error = b'data: {"error":{"code":502,"message":"upstream"}}\n\n'
    gateway.alpha.answers = [Answer((b": PROCESSING\n\n", error))]
    gateway.beta.answers = [stream_answer()]
    answer = await ask(http, "auto", stream=True)
    assert answer.headers["x-waypost-model"] == "large"
    assert answer.content.endswith(b"data: [DONE]\n\n")
