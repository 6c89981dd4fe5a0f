"""JSON that is nested deeply, or of other types than expected: refused, and never a failure."""

from typing import Any

import orjson
import pytest

from tests.fakes.gateway import CLAUDE, SMALL, RunningGateway
from tests.fakes.upstream import (
    Answer,
    anthropic_event,
    anthropic_message,
    anthropic_stream_chunks,
    completion,
    json_answer,
    stream_chunks,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = "/v1/chat/completions"
DEEP = b"[" * 600 + b"]" * 600
MARK = b'"MARK"'


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


PLACES: dict[str, dict[str, Any]] = {
    "content": {"messages": [{"role": "user", "content": "MARK"}]},
    "a text part": {"messages": [{"role": "user", "content": [{"type": "text", "text": "MARK"}]}]},
    "an audio part": {
        "messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": "MARK"}]}]
    },
    "an unknown part": {"messages": [{"role": "user", "content": ["MARK"]}]},
    "a message's metadata": {"messages": [{"role": "user", "content": "Hi", "x": "MARK"}]},
    "a tool call": {
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": "MARK"}]
    },
    "tools": {"tools": "MARK"},
    "a tool": {"tools": [{"type": "MARK"}]},
    "a schema": {"response_format": {"type": "json_schema", "json_schema": {"schema": "MARK"}}},
    "metadata": {"metadata": "MARK"},
    "stop": {"stop": "MARK"},
    "thinking": {"thinking": "MARK"},
    "waypost": {"waypost": {"plan": "MARK"}},
}


@pytest.mark.parametrize("place", PLACES)
async def test_deep_nesting_of_a_caller_is_refused_wherever_it_is(gateway, place) -> None:
    hello = {"messages": [{"role": "user", "content": "Hi"}]}
    async with gateway.caller() as http:
        for levels in (150, 185, 195, 199, 254, 255, 600, 1_000, 1_023, 5_000):
            for model in ("auto", SMALL, CLAUDE):
                gateway.alpha.answers = [json_answer(completion())]
                gateway.gamma.answers = [json_answer(anthropic_message())]
                body = orjson.dumps({"model": model, **hello, **PLACES[place]})
                answer = await http.post(CHAT, content=body.replace(MARK, nested(levels)))
                expected = {400} if levels > 200 else {200, 400}
                assert answer.status_code in expected, (levels, model, answer.text)


@pytest.mark.parametrize("levels", [150, 254, 600, 900, 970, 985, 1_000, 50_000])
async def test_a_deep_verifier_is_refused(gateway, levels) -> None:
    raw = b'{"id":"x","verifier":{"kind":"numeric","reference":%b}}' % nested(levels)
    async with gateway.caller() as http:
        kind = {"content-type": "application/json"}
        answer = await http.post("/v1/feedback", content=raw, headers=kind)
    assert answer.status_code == 400, answer.text


ANSWERS: dict[str, Any] = {
    "an unknown field": completion(x="MARK"),
    "the message": completion(choices=[{"index": 0, "message": "MARK", "finish_reason": "stop"}]),
    "the reason": completion(choices=[{"index": 0, "message": {}, "finish_reason": "MARK"}]),
    "the choices": completion(choices="MARK"),
    "usage": completion(usage="MARK"),
    "the id": completion(id="MARK"),
    "an error": {"error": "MARK"},
    "an error's message": {"error": {"message": "MARK", "code": "MARK", "type": "MARK"}},
    "everything": "MARK",
}
ODD = {"600 deep": DEEP, "2,000 deep": b"[" * 2_000 + b"]" * 2_000, "a list": b"[[1]]"}
ODD |= {"an object": b'{"a":{}}', "deep, with an escape": rb'["\ud800"' + b",[" * 3_000}
ODD["deep, with an escape"] += b"]" * 3_001


@pytest.mark.parametrize("place", ANSWERS)
@pytest.mark.parametrize("status", [200, 400, 404, 500])
async def test_an_odd_answer_of_a_provider_is_the_providers_fault(gateway, place, status) -> None:
    body = {"model": SMALL, "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"content-type": "application/json"}
    async with gateway.caller() as http:
        for name, odd in ODD.items():
            raw = orjson.dumps(ANSWERS[place]).replace(MARK, odd)
            gateway.alpha.answers = [Answer((raw,), status=status, headers=headers)]
            answer = await http.post(CHAT, json=body)
            assert answer.status_code != 500, name
            assert b"internal_error" not in answer.content, name
            await gateway.turn(answer.headers["x-request-id"])


CHUNKS: dict[str, bytes] = {
    "usage": b'data: {"id":"c","choices":[],"usage":"MARK"}\n\n',
    "usage details": b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":9,'
    b'"completion_tokens":9,"prompt_tokens_details":"MARK"}}\n\n',
    "the id": b'data: {"id":"MARK","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n',
    "the choices": b'data: {"id":"c","choices":"MARK","finish_reason":"x"}\n\n',
    "a choice": b'data: {"id":"c","choices":["MARK"],"finish_reason":"x"}\n\n',
    "the index": b'data: {"id":"c","choices":[{"index":"MARK","delta":{"content":"Hi"},'
    b'"finish_reason":"stop"}]}\n\n',
    "a call's index": b'data: {"id":"c","choices":[{"index":0,"delta":{"tool_calls":'
    b'[{"index":"MARK"}]},"finish_reason":"stop"}]}\n\n',
    "the reason": b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"MARK"}]}\n\n',
    "the delta": b'data: {"id":"c","choices":[{"index":0,"delta":"MARK","finish_reason":"x"}]}\n\n',
    "an error": b'data: {"error":"MARK"}\n\n',
    "an error's parts": b'data: {"error":{"message":"MARK","code":"MARK","type":"MARK"}}\n\n',
}
CLAUDES: dict[str, bytes] = {
    "usage": anthropic_event("message_delta", delta={"stop_reason": "end_turn"}, usage="MARK"),
    "a count": anthropic_event(
        "message_delta", delta={"stop_reason": "end_turn"}, usage={"cache_creation": "MARK"}
    ),
    "the reason": anthropic_event("message_delta", delta={"stop_reason": "MARK"}, usage={}),
    "the index": anthropic_event(
        "content_block_start", index="MARK", content_block={"type": "tool_use", "id": "t"}
    ),
    "the index of a tool": anthropic_event(
        "content_block_start",
        index="MARK",
        content_block={"type": "tool_use", "id": "t", "name": "n", "input": {}},
    ),
    "the index of an end": anthropic_event("content_block_stop", index="MARK"),
    "the index of arguments": anthropic_event(
        "content_block_delta",
        index="MARK",
        delta={"type": "input_json_delta", "partial_json": "{}"},
    ),
    "a tool": anthropic_event(
        "content_block_start",
        index=0,
        content_block={"type": "tool_use", "id": "MARK", "name": "MARK", "input": "MARK"},
    ),
    "a text": anthropic_event(
        "content_block_delta", index=0, delta={"type": "text_delta", "text": "MARK"}
    ),
    "the message": anthropic_event("message_start", message="MARK"),
    "the model": anthropic_event("message_start", message=anthropic_message(model="MARK")),
    "an error": anthropic_event("error", error="MARK"),
}


async def streamed(gateway: RunningGateway, model: str) -> bytes:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with gateway.caller() as http:
        answer = await http.post(CHAT, json=body)
    await gateway.turn(answer.headers["x-request-id"])
    assert answer.status_code != 500, answer.text
    return answer.content


@pytest.mark.parametrize("place", CHUNKS)
async def test_an_odd_chunk_of_a_provider_never_breaks_its_stream(gateway, place) -> None:
    first, *rest, usage, done = stream_chunks("Hi")
    for name, odd in ODD.items():
        spoilt = CHUNKS[place].replace(MARK, odd)
        early, first_of_all = [first, spoilt, *rest, usage, done], [spoilt, *rest, usage, done]
        for chunks in (early, first_of_all, [first, *rest, spoilt, done]):
            gateway.alpha.answers = [Answer(tuple(chunks))]
            received = await streamed(gateway, SMALL)
            assert b"internal_error" not in received, name
            assert b"[DONE]" in received or b'"error"' in received, name


@pytest.mark.parametrize("place", CLAUDES)
async def test_an_odd_event_of_claude_never_breaks_its_stream(gateway, place) -> None:
    first, *rest = anthropic_stream_chunks("Hi")
    for name, odd in ODD.items():
        spoilt = CLAUDES[place].replace(MARK, odd)
        for chunks in ([first, spoilt, *rest], [spoilt, *rest]):
            gateway.gamma.answers = [Answer(tuple(chunks))]
            received = await streamed(gateway, CLAUDE)
            assert b"internal_error" not in received, name
            assert b"[DONE]" in received or b'"error"' in received, name


@pytest.mark.parametrize("field", ["id", "grader", "comment", "verifier"])
@pytest.mark.parametrize("odd", [rb'"a\u0000"', rb'"\ud800"'])
async def test_a_grade_that_no_database_holds_is_refused(gateway, field, odd) -> None:
    grade: dict[str, Any] = {"id": "x", "grader": "g", "comment": "c"}
    grade |= {"score": 1} if field != "verifier" else {}
    value = b'{"kind":"exact","reference":%b}' % odd if field == "verifier" else odd
    raw = orjson.dumps({**grade, field: "MARK"}).replace(MARK, value)
    async with gateway.caller() as http:
        kind = {"content-type": "application/json"}
        answer = await http.post("/v1/feedback", content=raw, headers=kind)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == field


@pytest.mark.parametrize("levels", [150, 254, 600, 1_000, 1_023])
@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses"])
async def test_arguments_that_a_model_nests_deeply_reach_their_caller(
    gateway: RunningGateway, path: str, levels: int
) -> None:
    function = {"name": "f", "arguments": nested(levels).decode()}
    call = {"id": "call_1", "type": "function", "function": function}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": said, "finish_reason": "tool_calls"}
    hello = [{"role": "user", "content": "Hi"}]
    async with gateway.caller() as http:
        gateway.alpha.answers = [json_answer(completion(choices=[choice]))]
        given = "input" if path == "/v1/responses" else "messages"
        limit = {"max_tokens": 9} if path == "/v1/messages" else {}
        answer = await http.post(path, json={"model": SMALL, given: hello, **limit})

    assert answer.status_code == 200, answer.text
    assert str(answer.json()).count("{") >= levels
