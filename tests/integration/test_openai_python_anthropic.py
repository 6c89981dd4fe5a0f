"""OpenAI's SDK talks to a provider that speaks Anthropic's Messages API."""

from typing import Any

import openai
import pytest

from tests.fakes.gateway import CLAUDE, GAMMA_KEY
from tests.fakes.upstream import Answer, event, json_answer
from tests.fakes.weather import CALL, TOOL

pytestmark = pytest.mark.asyncio(loop_scope="session")

HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]


MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "Hello!"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "output_tokens": 3},
}


def anthropic_events(*blocks: tuple[dict[str, Any], list[dict[str, Any]]], stop: str) -> Answer:
    """Write a message as Anthropic streams it: named events, each block with its deltas."""
    begun = {**MESSAGE, "content": [], "stop_reason": None}
    written: list[dict[str, Any]] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for index, (block, deltas) in enumerate(blocks):
        start = {"type": "content_block_start", "index": index, "content_block": block}
        written.append(start)
        written += [
            {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
        ]
        written.append({"type": "content_block_stop", "index": index})
    ending = {"stop_reason": stop, "stop_sequence": None}
    written.append({"type": "message_delta", "delta": ending, "usage": {"output_tokens": 3}})
    written.append({"type": "message_stop"})
    return Answer(tuple(b"event: %s\n" % e["type"].encode() + event(e) for e in written))


async def test_chats_with_anthropics_dialect_in_openais(gateway, client):
    gateway.gamma.answers = [json_answer(MESSAGE)]

    answer = await client.chat.completions.create(
        model=CLAUDE,
        messages=[{"role": "system", "content": "Be brief."}, *HELLO],
        max_completion_tokens=50,
    )

    assert answer.choices[0].message.content == "Hello!"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12
    assert answer.model_extra["waypost"]["provider"] == "gamma"
    received = gateway.gamma.last
    assert received.path == "/gamma/v1/messages"
    assert received.headers["x-api-key"] == GAMMA_KEY
    assert received.headers["anthropic-version"] == "2023-06-01"
    assert received.body["model"] == "claude-sonnet-4-5"
    assert received.body["max_tokens"] == 50
    assert received.body["system"] == [{"type": "text", "text": "Be brief."}]


async def test_streams_anthropics_dialect_in_openais(gateway, client):
    deltas = [{"type": "text_delta", "text": text} for text in ("Hel", "lo!")]
    block = {"type": "text", "text": ""}
    gateway.gamma.answers = [anthropic_events((block, deltas), stop="end_turn")]

    stream = await client.chat.completions.create(
        model=CLAUDE, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "Hello!"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 12
    assert chunks[-1].model_extra["waypost"]["cost_usd"] == pytest.approx(15e-6)


async def test_calls_tools_in_anthropics_dialect(gateway, client):
    block = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}
    deltas = [
        {"type": "input_json_delta", "partial_json": text} for text in ('{"city"', ':"Oslo"}')
    ]
    gateway.gamma.answers = [
        anthropic_events((block, deltas), stop="tool_use"),
        json_answer(MESSAGE),
    ]
    async with client.chat.completions.stream(model=CLAUDE, messages=HELLO, tools=[TOOL]) as stream:
        final = await stream.get_final_completion()
    message = final.choices[0].message
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == '{"city":"Oslo"}'
    assert final.choices[0].finish_reason == "tool_calls"
    turn: Any = {"role": "assistant", "tool_calls": [{**CALL, "id": "toolu_1"}]}
    result: Any = {"role": "tool", "tool_call_id": "toolu_1", "content": "4"}

    answer = await client.chat.completions.create(
        model=CLAUDE, messages=[*HELLO, turn, result], tools=[TOOL]
    )

    assert answer.choices[0].message.content == "Hello!"
    sent = gateway.gamma.last.body
    assert sent["tools"][0]["name"] == "get_weather"
    assert sent["messages"][1]["content"][0]["input"] == {"city": "Oslo"}
    assert sent["messages"][2]["content"][0]["tool_use_id"] == "toolu_1"


async def test_an_error_of_anthropics_dialect_is_one_of_openais(gateway, client):
    said = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "max_tokens: too large"},
    }
    gateway.gamma.answers = [json_answer(said, 400)]

    with pytest.raises(openai.BadRequestError, match="max_tokens: too large"):
        await client.chat.completions.create(model=CLAUDE, messages=HELLO)
