"""OpenAI's Responses, answered by upstreams of every dialect."""

import asyncio

import pytest

from gateway.types import CLIENT_LEFT
from tests.fakes.gateway import CLAUDE, SMALL, SteppedUpstream
from tests.fakes.patience import PATIENCE_S
from tests.fakes.responses import AGENT, HELLO, PIXEL, SCHEMA, SESSION, WEATHER, events_of
from tests.fakes.scrape import scrape
from tests.fakes.upstream import (
    Answer,
    anthropic_message,
    anthropic_stream_chunks,
    chunk,
    completion,
    json_answer,
    stream_answer,
    stream_chunks,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

RESPONSES = "/v1/responses"
STREAM = HELLO | {"stream": True}


async def test_an_answer_of_chat_completions_becomes_a_response(gateway, http):
    gateway.alpha.answers = [json_answer(completion())]

    response = await http.post(RESPONSES, json=HELLO | {"temperature": 0.5})

    body = response.json()
    assert body.pop("waypost")["model"] == SMALL
    assert body == {
        "id": "resp_chatcmpl-1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "model": "upstream-model",
        "output": [
            {
                "id": "msg_wp_chatcmpl-1_0",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [
                    {"type": "output_text", "text": "Hello!", "annotations": [], "logprobs": []}
                ],
            }
        ],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": None,
        "store": False,
        "temperature": 0.5,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": None,
        "truncation": "disabled",
        "usage": {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 12,
        },
        "user": None,
    }
    assert response.headers["x-waypost-model"] == SMALL
    row = await gateway.turn(response.headers["x-request-id"])
    assert (row.prompt_tokens, row.completion_tokens, row.answer_id) == (9, 3, "chatcmpl-1")


async def test_a_conversation_reaches_chat_completions_in_their_form(gateway, http):
    gateway.alpha.answers = [json_answer(completion())]

    response = await http.post(RESPONSES, json=AGENT, headers={"session_id": SESSION})

    assert response.status_code == 200, response.text
    sent = gateway.alpha.last.body
    picture = {"type": "image_url", "image_url": {"url": PIXEL, "detail": "auto"}}
    patch = '{"input":"+ a"}'
    assert sent["messages"] == [
        {"role": "system", "content": "You are an agent.\n\nAsk before you write."},
        {"role": "user", "content": "<environment_context>\n/home"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is in the picture, and the weather?"},
                picture,
            ],
        },
        {
            "role": "assistant",
            "content": "I look.",
            "reasoning_content": "Look first.",
            "tool_calls": [
                called("call_1", "get_weather", '{"city":"Oslo"}'),
                called("call_2", "apply_patch", patch),
                called("call_3", "mcp__files__read", "{}"),
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "4 degrees"},
        {"role": "tool", "tool_call_id": "call_2", "content": "Done."},
        {"role": "tool", "tool_call_id": "call_3", "content": "no such file"},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
                {
                    "type": "text",
                    "text": "<system-reminder>\nYou may write now.\n</system-reminder>",
                },
            ],
        },
    ]
    functions = [tool["function"] for tool in sent["tools"]]
    assert [one["name"] for one in functions] == ["get_weather", "apply_patch", "mcp__files__read"]
    assert functions[1]["parameters"]["required"] == ["input"]
    assert functions[1]["description"].endswith("lark grammar:\nstart: /.+/")
    assert set(sent) == {
        *("max_tokens", "messages", "model", "parallel_tool_calls"),
        *("prompt_cache_key", "tool_choice", "tools", "verbosity"),
    }
    row = await gateway.turn(response.headers["x-request-id"])
    assert (row.turn_index, row.conversation_id, row.metadata) == (0, SESSION, {"job": "test"})


def called(call_id: str, name: str, arguments: str) -> dict[str, object]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


async def test_a_conversation_reaches_anthropics_form(gateway, http):
    gateway.gamma.answers = [json_answer(anthropic_message())]

    response = await http.post(RESPONSES, json=AGENT | {"model": CLAUDE})

    assert response.status_code == 200, response.text
    assert response.json()["output"][0]["content"][0]["text"] == "Hello!"
    sent = gateway.gamma.last.body
    assert [block["type"] for block in sent["messages"][1]["content"]] == [
        *("text", "tool_use", "tool_use", "tool_use")
    ]
    assert [block["type"] for block in sent["messages"][2]["content"]] == [
        *("tool_result", "tool_result", "tool_result", "image", "text")
    ]
    assert sent["system"] == [
        {"type": "text", "text": "You are an agent.\n\nAsk before you write."}
    ]


@pytest.mark.parametrize("model", [SMALL, CLAUDE])
async def test_a_stream_is_the_same_answer_event_by_event(gateway, http, model):
    gateway.alpha.answers = [stream_answer("Hello!")]
    gateway.gamma.answers = [Answer(tuple(anthropic_stream_chunks("Hello!")))]

    response = await http.post(RESPONSES, json=STREAM | {"model": model})

    events = events_of(response.content)
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *(["response.output_text.delta"] * 6),
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    last = events[-1]["response"]
    assert last["usage"]["total_tokens"] == 12
    assert last["waypost"]["cost_usd"] > 0
    assert last["output"] == [events[-2]["item"]]
    row = await gateway.turn(response.headers["x-request-id"])
    assert (row.prompt_tokens, row.completion_tokens, row.is_stream) == (9, 3, True)


async def test_structured_answers_effort_and_limits_are_asked_for_in_chats_words(gateway, http):
    gateway.alpha.answers = [json_answer(completion())]
    form = {"type": "json_schema", "name": "capital", "schema": SCHEMA, "strict": True}
    fields = {"text": {"format": form}, "top_logprobs": 2, "user": "u", "service_tier": "auto"}

    response = await http.post(RESPONSES, json=HELLO | fields)

    assert response.status_code == 200, response.text
    sent = gateway.alpha.last.body
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "capital", "schema": SCHEMA, "strict": True},
    }
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 2)
    assert response.json()["text"]["format"] == form


async def test_allowed_tools_leave_out_the_others(gateway, http):
    gateway.alpha.answers = [json_answer(completion())]
    other = WEATHER | {"name": "other"}
    choice = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "other"}],
    }

    await http.post(RESPONSES, json=HELLO | {"tools": [WEATHER, other], "tool_choice": choice})

    sent = gateway.alpha.last.body
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["other"]
    assert sent["tool_choice"] == "required"


async def test_a_cut_off_stream_fails_and_is_charged(gateway, http):
    gateway.alpha.answers = [Answer(tuple(stream_chunks("Hello!")[:4]), cuts_off=True)]

    response = await http.post(RESPONSES, json=STREAM | {"model": SMALL})

    events = events_of(response.content)
    assert [event["type"] for event in events[-2:]] == ["response.failed", "error"]
    failed = events[-2]["response"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert failed["output"][0]["status"] == "incomplete"
    assert events[-1]["code"] == events[-1]["error"]["code"] == "provider_cut_off"
    row = await gateway.turn(response.headers["x-request-id"])
    assert row.is_estimated
    assert row.completion_tokens > 0
    assert row.cost_nusd > 0


async def test_a_caller_who_leaves_is_charged_for_what_was_forwarded(gateway, http):
    upstream = SteppedUpstream()
    gateway.upstreams.by_name["alpha"] = upstream
    asked = STREAM | {
        "model": SMALL,
        "max_output_tokens": 500,
        "metadata": {"job": "left response"},
    }
    upstream.send(chunk({"content": "Hello there"}))
    async with http.stream("POST", RESPONSES, json=asked) as response:
        assert await anext(response.aiter_bytes())
    await asyncio.wait_for(upstream.client_has_left.wait(), PATIENCE_S)

    row = await gateway.labelled_turn("left response")
    assert row.error == CLIENT_LEFT
    assert 0 < row.completion_tokens < 500


async def test_requests_are_counted_as_those_of_chat_are(gateway, http):
    gateway.alpha.answers = [json_answer(completion())]
    before = await scrape(gateway)
    await http.post(RESPONSES, json=HELLO)
    after = await scrape(gateway)

    count, cost = "waypost_requests_total", "waypost_cost_usd_total"
    labels = {"endpoint": "responses", "status": "200"}
    assert after.sum(count, **labels) == before.sum(count, **labels) + 1
    assert after.sum(cost, model=SMALL) > before.sum(cost, model=SMALL)


async def test_tokens_are_counted_without_a_call(gateway, http):
    response = await http.post(f"{RESPONSES}/input_tokens", json={"input": "word " * 100})

    assert response.json() == {
        "object": "response.input_tokens",
        "input_tokens": response.json()["input_tokens"],
    }
    assert 80 < response.json()["input_tokens"] < 300
    assert gateway.alpha.requests == []


async def test_a_response_can_be_graded_by_its_id(gateway, http):
    gateway.alpha.answers = [json_answer(completion(id="chatcmpl-graded"))]
    response = await http.post(RESPONSES, json=HELLO)
    await gateway.turn(response.headers["x-request-id"])

    graded = await http.post("/v1/feedback", json={"id": response.json()["id"], "score": 1.0})

    assert graded.status_code == 202, graded.text
