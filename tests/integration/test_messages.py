"""Anthropic's Messages, answered by upstreams of every dialect."""

import asyncio
from typing import Any

import orjson
import pytest

from gateway.types import CLIENT_LEFT
from tests.fakes.gateway import CLAUDE, LARGE, SMALL, SteppedUpstream
from tests.fakes.messages import AGENT, HELLO, PIXEL, SESSION, VERSION, events_of
from tests.fakes.patience import PATIENCE_S
from tests.fakes.upstream import (
    Answer,
    anthropic_error,
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


@pytest.mark.parametrize(
    ("changes", "status", "kind", "words"),
    [
        ({"max_tokens": None}, 400, "invalid_request_error", "max_tokens: Field required"),
        ({"messages": []}, 400, "invalid_request_error", "at least one message"),
        (
            {"messages": [{"role": "user", "content": 5}]},
            400,
            "invalid_request_error",
            "messages.0",
        ),
        ({"model": "nobody"}, 404, "not_found_error", "nobody"),
        ({"speed": "fast"}, 400, "invalid_request_error", "speed"),
        ({"mcp_servers": [{"url": "x"}]}, 400, "invalid_request_error", "mcp_servers"),
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            *(400, "invalid_request_error", "tools.web_search_20250305"),
        ),
        (
            {"context_management": {"edits": [{"type": "compact_20260112"}]}},
            *(400, "invalid_request_error", "context_management"),
        ),
    ],
)
@pytest.mark.parametrize("model", ["auto", CLAUDE])
async def test_what_cannot_be_served_is_refused_in_anthropics_form(
    gateway, http, model, changes, status, kind, words
):
    response = await http.post(MESSAGES, json=HELLO | {"model": model} | changes, headers=VERSION)

    body = response.json()
    assert response.status_code == status
    assert body["type"] == "error"
    assert body["error"]["type"] == kind
    assert words in body["error"]["message"]
    assert "request_id" in body
    assert gateway.alpha.requests == gateway.gamma.requests == []


async def test_what_anthropic_refuses_is_told_in_its_own_words(gateway, http):
    gateway.gamma.answers = [
        anthropic_error(400, "prompt is too long: 210000 tokens", "invalid_request_error")
    ]

    response = await http.post(MESSAGES, json=HELLO | {"model": CLAUDE}, headers=VERSION)

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert response.json()["error"]["message"] == "prompt is too long: 210000 tokens"


async def test_a_prompt_that_another_host_calls_too_long_is_told_so_that_clients_shorten_it(
    gateway, http
):
    said = "This model's maximum context length is 8192 tokens."
    gateway.alpha.answers = [error_answer(400, said, code="context_length_exceeded")]

    response = await http.post(MESSAGES, json=HELLO | {"model": SMALL}, headers=VERSION)

    assert response.json()["error"]["message"] == f"prompt is too long: {said}"


@pytest.mark.parametrize("path", [MESSAGES, f"{MESSAGES}/count_tokens"])
async def test_a_stranger_is_told_so_in_anthropics_form(gateway, http, path):
    headers = VERSION | {"authorization": "Bearer wp-000000000000-AAAA"}

    response = await http.post(path, json=HELLO, headers=headers)

    assert response.status_code == 401
    assert response.json()["error"]["type"] == "authentication_error"


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


async def test_counts_the_tokens_of_a_prompt_without_calling_a_model(gateway, http):
    asked: dict[str, Any] = {"model": "auto", "messages": HELLO["messages"]}

    short = await http.post(f"{MESSAGES}/count_tokens", json=asked, headers=VERSION)
    asked["system"] = "word " * 1000
    long = await http.post(f"{MESSAGES}/count_tokens", json=asked, headers=VERSION)

    assert short.headers["x-waypost-token-count"] == "estimated"
    assert 3 <= short.json()["input_tokens"] <= 30
    assert 900 <= long.json()["input_tokens"] <= 1500
    assert gateway.alpha.requests == []


async def test_lists_models_in_anthropics_form_page_by_page(gateway, http):
    ids: list[str] = []
    page: dict[str, Any] = {"has_more": True, "last_id": None}
    while page["has_more"]:
        query = {"limit": 2} | ({"after_id": page["last_id"]} if ids else {})
        page = (await http.get("/v1/models", params=query, headers=VERSION)).json()
        assert {model["type"] for model in page["data"]} == {"model"}
        ids += [model["id"] for model in page["data"]]

    openais = (await http.get("/v1/models")).json()
    assert ids == [model["id"] for model in openais["data"]]
    assert {"auto", SMALL, CLAUDE} <= set(ids)


async def test_shows_one_model_and_misses_another_in_anthropics_form(http):
    shown = await http.get(f"/v1/models/{CLAUDE}", headers=VERSION)
    missed = await http.get("/v1/models/nobody", headers=VERSION)
    refused = await http.get("/v1/models", params={"limit": 0}, headers=VERSION)

    assert shown.json()["display_name"] == CLAUDE
    assert missed.json()["error"]["type"] == "not_found_error"
    assert refused.json()["error"]["type"] == "invalid_request_error"


async def test_an_output_limit_that_is_no_number_is_refused(gateway, http):
    raw = orjson.dumps(HELLO | {"max_tokens": "many"})

    response = await http.post(MESSAGES, content=raw, headers=VERSION)

    assert response.status_code == 400
    assert gateway.alpha.requests == []
