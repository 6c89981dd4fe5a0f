"""Anthropic's Messages, answered by upstreams of every dialect."""

import asyncio
from typing import Any

import pytest

from gateway.types import CLIENT_LEFT
from tests.fakes.gateway import CLAUDE, LARGE, PRICE, SMALL, SteppedUpstream, running_gateway
from tests.fakes.messages import AGENT, HELLO, PIXEL, SESSION, VERSION, events_of
from tests.fakes.patience import PATIENCE_S
from tests.fakes.upstream import (
    Answer,
    anthropic_message,
    anthropic_stream_chunks,
    chunk,
    completion,
    error_answer,
    json_answer,
    stream_answer,
    stream_chunks,
    usage_chunk,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

MESSAGES = "/v1/messages"
STREAM = HELLO | {"stream": True}
DONE = b"data: [DONE]\n\n"
CALL = {"name": "get_weather", "arguments": '{"city":"Oslo"}'}


async def test_an_answer_of_chat_completions_becomes_a_message(gateway, http):
    gateway.alpha.answers = [json_answer(completion())]

    response = await http.post(MESSAGES, json=HELLO, headers=VERSION)

    message = response.json()
    assert message.pop("waypost")["model"] == SMALL
    assert message == {
        "id": "chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "model": "upstream-model",
        "content": [{"type": "text", "text": "Hello!"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 9,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 3,
        },
    }
    assert response.headers["request-id"] == response.headers["x-request-id"]
    assert response.headers["x-waypost-model"] == SMALL
    row = await gateway.turn(response.headers["request-id"])
    assert (row.prompt_tokens, row.completion_tokens, row.answer_id) == (9, 3, "chatcmpl-1")


async def test_a_conversation_reaches_chat_completions_in_their_form(gateway, http):
    gateway.alpha.answers = [json_answer(completion())]

    response = await http.post(MESSAGES, json=AGENT, headers=VERSION)

    assert response.status_code == 200, response.text
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    sent = gateway.alpha.last.body
    assert sent["messages"] == [
        {"role": "system", "content": "You are an agent.\n\nRules."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>\nBe brief.\n</system-reminder>"},
                {"type": "text", "text": "What is in the picture, and the weather?"},
                picture,
            ],
        },
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "toolu_1", "type": "function", "function": CALL},
                {
                    "id": "toolu_2",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": "{}"},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "4 degrees"},
        {"role": "tool", "tool_call_id": "toolu_2", "content": "no city"},
        {"role": "user", "content": [picture]},
    ]
    assert set(sent["tools"][0]) == {"type", "function"}
    assert sent["tools"][0]["function"]["parameters"]["properties"] == {"city": {"type": "string"}}
    assert sent["tool_choice"] == "auto"
    assert sent["parallel_tool_calls"] is False
    assert sent["stop"] == ["END"]
    assert set(sent) == {
        *("max_tokens", "messages", "model", "parallel_tool_calls"),
        *("stop", "tool_choice", "tools", "user"),
    }


async def test_a_request_reaches_anthropics_form_as_it_was_sent(gateway, http):
    gateway.gamma.answers = [json_answer(anthropic_message())]
    headers = VERSION | {"anthropic-beta": "context-management-2025-06-27,extended-cache-ttl"}

    response = await http.post(MESSAGES, json=AGENT | {"model": CLAUDE}, headers=headers)

    assert response.status_code == 200, response.text
    received = gateway.gamma.last
    assert received.body == AGENT | {"model": "claude-sonnet-4-5"}
    assert received.headers["anthropic-beta"] == headers["anthropic-beta"]
    assert received.headers["anthropic-version"] == "2023-06-01"


async def test_an_answer_of_anthropics_form_passes_as_it_is(gateway, http):
    told = anthropic_message(
        content=[
            {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"},
            {"type": "text", "text": "Hello", "citations": [{"type": "char_location"}]},
        ],
        stop_reason="stop_sequence",
        stop_sequence="END",
        usage={"input_tokens": 9, "output_tokens": 3, "cache_read_input_tokens": 1000},
    )
    gateway.gamma.answers = [json_answer(told)]

    response = await http.post(MESSAGES, json=HELLO | {"model": CLAUDE}, headers=VERSION)

    message = response.json()
    del message["waypost"]
    assert message == told
    row = await gateway.turn(response.headers["request-id"])
    assert (row.prompt_tokens, row.cached_tokens) == (1009, 1000)


async def test_a_stream_of_anthropics_form_passes_byte_for_byte(gateway, http):
    chunks = anthropic_stream_chunks("Hello!")
    gateway.gamma.answers = [Answer(tuple(chunks))]

    response = await http.post(MESSAGES, json=STREAM | {"model": CLAUDE}, headers=VERSION)

    passed = b"".join(chunks[:-1])
    assert response.content.startswith(passed)
    ending = events_of(response.content[len(passed) :])
    assert [event["type"] for event in ending] == ["message_stop"]
    assert ending[0]["waypost"]["cost_usd"] > 0
    row = await gateway.turn(response.headers["request-id"])
    assert (row.prompt_tokens, row.completion_tokens, row.finish_reason) == (9, 3, "stop")


async def test_a_stream_of_chat_completions_becomes_events(gateway, http):
    gateway.alpha.answers = [stream_answer("Hi")]

    response = await http.post(MESSAGES, json=STREAM, headers=VERSION)

    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_of(response.content)
    assert events[0]["message"] == {
        "id": "chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "model": "upstream-model",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": dict.fromkeys(events[0]["message"]["usage"], 0),
    }
    assert events[1:-2] == [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": letter},
            }
            for letter in "Hi"
        ),
        {"type": "content_block_stop", "index": 0},
    ]
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert (events[-2]["usage"]["input_tokens"], events[-2]["usage"]["output_tokens"]) == (9, 3)
    assert events[-1]["type"] == "message_stop"


async def test_a_call_of_a_tool_is_streamed_as_a_block(gateway, http):
    call = {"index": 0, "id": "functions.get_weather:0", "type": "function", "function": CALL}
    gateway.alpha.answers = [
        Answer((chunk({"tool_calls": [call]}), chunk({}, "tool_calls"), usage_chunk(), DONE))
    ]

    response = await http.post(MESSAGES, json=STREAM, headers=VERSION)

    _, start, delta, _, end, _ = events_of(response.content)
    assert start["content_block"]["name"] == "get_weather"
    assert start["content_block"]["id"].startswith("functions_get_weather_0_")
    assert delta["delta"] == {"type": "input_json_delta", "partial_json": '{"city":"Oslo"}'}
    assert end["delta"]["stop_reason"] == "tool_use"


async def test_thoughts_of_another_model_do_not_go_back_to_claude(gateway, http):
    said = {"role": "assistant", "content": "Hi", "reasoning_content": "Hm."}
    choice = {"index": 0, "message": said, "finish_reason": "stop"}
    gateway.alpha.answers = [json_answer(completion(choices=[choice]))]
    gateway.gamma.answers = [json_answer(anthropic_message())]
    asked = HELLO | {"max_tokens": 5000, "thinking": {"type": "enabled", "budget_tokens": 1024}}

    first = await http.post(MESSAGES, json=asked, headers=VERSION)
    content = first.json()["content"]
    asked |= {"messages": [*HELLO["messages"], {"role": "assistant", "content": content}]}
    asked["messages"].append({"role": "user", "content": "Go on."})
    second = await http.post(MESSAGES, json=asked | {"model": CLAUDE}, headers=VERSION)

    assert [block["type"] for block in content] == ["thinking", "text"]
    assert second.status_code == 200
    turn = gateway.gamma.last.body["messages"][1]
    assert turn["content"] == [{"type": "text", "text": "Hi"}]


async def test_who_did_not_ask_for_thoughts_gets_the_text_first(gateway, http):
    said = {"role": "assistant", "content": "Hi", "reasoning_content": "Hm."}
    choice = {"index": 0, "message": said, "finish_reason": "stop"}
    gateway.alpha.answers = [json_answer(completion(choices=[choice]))]

    response = await http.post(MESSAGES, json=HELLO, headers=VERSION)

    assert [block["type"] for block in response.json()["content"]] == ["text"]


async def test_the_next_model_answers_where_the_first_is_down(gateway, http):
    gateway.alpha.answers = [error_answer(500, "oh no")]
    gateway.beta.answers = [stream_answer("Hi")]

    response = await http.post(MESSAGES, json=STREAM, headers=VERSION)

    assert response.headers["x-waypost-model"] == LARGE
    assert events_of(response.content)[-1]["type"] == "message_stop"


@pytest.mark.parametrize("model", [SMALL, CLAUDE])
async def test_a_stream_that_is_cut_off_ends_in_an_error_and_does_not_look_complete(
    gateway, http, model
):
    gateway.alpha.answers = [Answer(tuple(stream_chunks("Hello!")[:4]), cuts_off=True)]
    gateway.gamma.answers = [Answer(tuple(anthropic_stream_chunks("Hello!")[:5]), cuts_off=True)]

    response = await http.post(MESSAGES, json=STREAM | {"model": model}, headers=VERSION)

    *_, last = events_of(response.content)
    assert last["type"] == "error"
    assert last["error"]["type"] == "api_error"
    assert last["request_id"] == response.headers["request-id"]
    assert b"message_stop" not in response.content
    row = await gateway.turn(last["request_id"])
    assert row.completion_tokens > 0
    assert row.is_estimated is True


async def test_a_caller_that_leaves_amid_a_native_stream_is_charged_what_was_forwarded(
    gateway, http
):
    upstream = gateway.upstreams.by_name["gamma"] = SteppedUpstream()
    begun = b"".join(anthropic_stream_chunks("Hello!")[:7])
    upstream.send(begun)

    asked = STREAM | {"model": CLAUDE}
    async with http.stream("POST", MESSAGES, json=asked, headers=VERSION) as response:
        received = b""
        async for part in response.aiter_raw():
            received += part
            if received == begun:
                break
    await asyncio.wait_for(upstream.client_has_left.wait(), PATIENCE_S)

    row = await gateway.turn(response.headers["request-id"])
    assert row.error == CLIENT_LEFT
    assert 0 < row.completion_tokens < 10
    assert row.is_estimated is True


async def test_a_key_may_come_as_x_api_key(gateway):
    gateway.alpha.answers = [json_answer(completion())]
    async with gateway.caller() as client:
        del client.headers["authorization"]
        headers = VERSION | {"x-api-key": gateway.key}
        response = await client.post(f"{MESSAGES}?beta=true", json=HELLO, headers=headers)

    assert response.status_code == 200


async def test_a_session_of_claude_code_is_one_conversation_and_its_user_one_user(gateway, http):
    gateway.alpha.answers = [json_answer(completion())]

    response = await http.post(MESSAGES, json=AGENT, headers=VERSION)

    row = await gateway.turn(response.headers["request-id"])
    assert row.conversation_id == SESSION
    assert row.turn_index == 0
    assert gateway.alpha.last.body["user"] == "d1"


async def test_the_output_limit_is_lowered_to_what_a_model_takes(tmp_path):
    """The wire requires it, so callers name the largest they know: it rules no model out."""
    model: dict[str, Any] = {"provider": "alpha", "upstream_name": "up", "price": PRICE}
    model["capabilities"] = {"max_output_tokens": 1000}
    profile = {"willingness_to_pay_usd": 1.0, "models": [SMALL]}
    changes: dict[str, Any] = {"models": {SMALL: model}, "profiles": {"balanced": profile}}
    async with running_gateway(tmp_path, **changes) as gateway, gateway.caller() as http:
        gateway.alpha.answers = [json_answer(completion())]
        asked = HELLO | {"max_tokens": 64_000}
        response = await http.post(MESSAGES, json=asked, headers=VERSION)

        assert response.status_code == 200, response.text
        assert gateway.alpha.last.body["max_tokens"] == 1000


async def test_tools_that_anthropic_describes_and_the_caller_runs_reach_claude(gateway, http):
    gateway.gamma.answers = [json_answer(anthropic_message())]
    tools = [{"type": "bash_20250124", "name": "bash"}]

    response = await http.post(
        MESSAGES, json=HELLO | {"model": CLAUDE, "tools": tools}, headers=VERSION
    )

    assert response.status_code == 200, response.text
    assert gateway.gamma.last.body["tools"] == tools


async def test_effort_is_told_to_models_that_can_be_told(tmp_path):
    model: dict[str, Any] = {"provider": "alpha", "upstream_name": "up", "price": PRICE}
    model["capabilities"] = {"reasoning": "effort"}
    changes: dict[str, Any] = {
        "models": {SMALL: model},
        "profiles": {},
        "routing": {"encoder": "static"},
    }
    async with running_gateway(tmp_path, **changes) as gateway, gateway.caller() as http:
        gateway.alpha.answers = [json_answer(completion())]
        asked = HELLO | {"model": SMALL, "output_config": {"effort": "high"}}
        response = await http.post(MESSAGES, json=asked, headers=VERSION)

        assert response.status_code == 200, response.text
        assert gateway.alpha.last.body["reasoning_effort"] == "high"
