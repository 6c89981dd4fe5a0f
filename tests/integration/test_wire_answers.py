"""Answers that end oddly, or hold what is odd, are whole all the same."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import orjson
import pytest
import pytest_asyncio

from gateway.endpoints.access import CHAT_PATH
from tests.fakes.asked import CHAT, HELLO, ask, stream, text_of
from tests.fakes.gateway import CLAUDE, SMALL, RunningGateway, running_gateway
from tests.fakes.upstream import (
    JSON,
    Answer,
    anthropic_event,
    anthropic_message,
    anthropic_stream_chunks,
    chunk,
    completion,
    stream_answer,
    stream_chunks,
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("wire answers"),  # one gateway
]

SILENCE_S = 0.5
BREAKER_FAILURES = 3
LIMITS = {"max_retries": 2, "breaker_failures": BREAKER_FAILURES, "idle_timeout_s": SILENCE_S}
PATIENT = {"beta": {"breaker_failures": 1000}}


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
    for _ in range(BREAKER_FAILURES + 1):
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
    for _ in range(BREAKER_FAILURES + 1):
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
    provider: Any = gateway.app.public.turns[CHAT_PATH].service.providers["beta"]
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
