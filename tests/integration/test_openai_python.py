"""OpenAI's own Python SDK drives the gateway, as it drives OpenAI."""

import base64
from typing import Any

import openai
import orjson
import pytest
from pydantic import BaseModel

from tests.fakes.gateway import ALPHA_KEY, CLAUDE, LARGE, SMALL
from tests.fakes.upstream import (
    Answer,
    chunk,
    completion,
    json_answer,
    stream_answer,
    stream_chunks,
    usage_chunk,
)
from tests.fakes.weather import CALL, TOOL

pytestmark = pytest.mark.asyncio(loop_scope="session")

HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]


class Capital(BaseModel):
    """What the structured answers hold."""

    country: str
    city: str


def tool_answer() -> dict[str, Any]:
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    return completion(
        choices=[{"index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": None}]
    )


async def test_gets_a_whole_answer_from_the_model_that_the_router_chose(gateway, client):
    gateway.alpha.answers = [json_answer(completion("Hello!"))]

    answer = await client.chat.completions.create(model="auto", messages=HELLO)

    assert answer.choices[0].message.content == "Hello!"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12
    assert answer.model == "upstream-model"
    said = answer.model_extra["waypost"]
    assert said["model"] == SMALL
    assert said["provider"] == "alpha"
    assert said["reason"] == "router"
    assert said["cost_usd"] == pytest.approx((9 * 1.0 + 3 * 2.0) / 1e6)
    assert said["usage_is_estimated"] is False


async def test_sends_the_body_upstream_with_another_model_name_and_the_providers_key(
    gateway, client
):
    gateway.alpha.answers = [json_answer(completion())]

    await client.chat.completions.create(model="auto", messages=HELLO, temperature=0.5)

    received = gateway.alpha.last
    assert received.path == "/alpha/v1/chat/completions"
    assert received.headers["authorization"] == f"Bearer {ALPHA_KEY}"
    assert gateway.key not in str(received.headers)
    assert received.body == {"model": "alpha-small", "messages": HELLO, "temperature": 0.5}


async def test_streams_an_answer_without_a_usage_chunk_unless_asked(gateway, client):
    gateway.alpha.answers = [stream_answer("Hello!")]

    stream = await client.chat.completions.create(model="auto", messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]

    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Hello!"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(c.usage is None for c in chunks)
    assert gateway.alpha.last.body["stream_options"] == {"include_usage": True}


async def test_streams_usage_and_the_decision_in_a_last_chunk_when_asked(gateway, client):
    gateway.alpha.answers = [stream_answer("Hello!")]

    stream = await client.chat.completions.create(
        model="auto", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (9, 3)
    assert all(c.usage is None for c in chunks[:-1])
    said = chunks[-1].model_extra["waypost"]
    assert said["model"] == SMALL
    assert said["cost_usd"] == pytest.approx(15e-6)
    assert {c.id for c in chunks} == {"chatcmpl-1"}


async def test_streams_an_estimate_marked_as_one_where_the_provider_counts_nothing(gateway, client):
    without_usage = [part for part in stream_chunks("Hi") if b'"usage"' not in part]
    gateway.alpha.answers = [Answer(tuple(without_usage))]

    stream = await client.chat.completions.create(
        model="auto", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 0
    assert chunks[-1].model_extra["waypost"]["usage_is_estimated"] is True
    assert chunks[-1].id == "chatcmpl-1"


async def test_the_stream_helper_accumulates_an_answer(gateway, client):
    gateway.alpha.answers = [stream_answer("Hello!")]

    async with client.chat.completions.stream(model="auto", messages=HELLO) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()

    assert final.choices[0].message.content == "Hello!"


async def test_calls_a_tool_and_hands_back_its_result(gateway, client):
    gateway.alpha.answers = [json_answer(tool_answer()), json_answer(completion("4 degrees."))]
    first = await client.chat.completions.create(model="auto", messages=HELLO, tools=[TOOL])
    calls = first.choices[0].message.tool_calls
    assert first.choices[0].finish_reason == "tool_calls"
    assert calls is not None
    assert orjson.loads(calls[0].function.arguments) == {"city": "Oslo"}
    result = {"role": "tool", "tool_call_id": calls[0].id, "content": "4"}

    second = await client.chat.completions.create(
        model="auto", messages=[*HELLO, first.choices[0].message, result], tools=[TOOL]
    )

    assert second.choices[0].message.content == "4 degrees."
    sent = gateway.alpha.last.body
    assert sent["tools"] == [TOOL]
    assert sent["messages"][1]["tool_calls"] == [CALL]
    assert sent["messages"][2] == result


async def test_streams_the_pieces_of_a_tool_call(gateway, client):
    function = {"name": "get_weather", "arguments": ""}
    opening = {"index": 0, "id": "call_1", "type": "function", "function": function}
    pieces = [{"index": 0, "function": {"arguments": text}} for text in ('{"city"', ':"Oslo"}')]
    deltas = [{"role": "assistant", "content": None, "tool_calls": [opening]}]
    deltas += [{"tool_calls": [piece]} for piece in pieces]
    parts = [chunk(delta) for delta in deltas]
    parts += [chunk({}, "tool_calls"), usage_chunk(), b"data: [DONE]\n\n"]
    gateway.alpha.answers = [Answer(tuple(parts))]

    async with client.chat.completions.stream(model="auto", messages=HELLO, tools=[TOOL]) as stream:
        final = await stream.get_final_completion()

    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].id == "call_1"
    assert calls[0].function.arguments == '{"city":"Oslo"}'
    assert final.choices[0].finish_reason == "tool_calls"


async def test_parses_a_structured_answer(gateway, client):
    gateway.alpha.answers = [json_answer(completion('{"country":"Norway","city":"Oslo"}'))]

    answer = await client.chat.completions.parse(
        model="auto", messages=HELLO, response_format=Capital
    )

    assert answer.choices[0].message.parsed == Capital(country="Norway", city="Oslo")
    asked = gateway.alpha.last.body["response_format"]
    assert asked["type"] == "json_schema"
    assert asked["json_schema"]["strict"] is True


async def test_routes_pictures_to_a_model_that_sees_and_leaves_them_as_they_are(gateway, client):
    picture = base64.b64encode(bytes(range(256))).decode()
    parts = [
        {"type": "text", "text": "What is this?"},
        {
            "type": "image_url",
            "image_url": {"url": f"data:image/png;base64,{picture}", "detail": "low"},
        },
    ]
    messages: Any = [{"role": "user", "content": parts}]
    gateway.alpha.answers = [json_answer(completion("A picture."))]

    await client.chat.completions.create(model="auto", messages=messages)

    assert gateway.alpha.last.body["messages"] == messages


async def test_says_why_no_model_can_take_a_request(gateway, client):
    sound: Any = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}

    with pytest.raises(openai.BadRequestError, match="small: no_audio, large: no_audio") as caught:
        await client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": [sound]}]
        )

    assert caught.value.code == "no_capable_model"
    assert gateway.alpha.requests == []


async def test_passes_every_admitted_field_on_and_every_field_of_the_answer_back(gateway, client):
    logprobs = {"content": [{"token": "Hi", "logprob": -0.1, "bytes": [72], "top_logprobs": []}]}
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text, "annotations": [], "x_note": [1]},
            "finish_reason": "stop",
            "logprobs": logprobs,
        }
        for index, text in enumerate(("Hi", "Ho"))
    ]
    said = completion(
        choices=choices, system_fingerprint="fp_1", service_tier="default", x_host={"gpu": "h100"}
    )
    gateway.alpha.answers = [json_answer(said)]
    fields: dict[str, Any] = {
        "n": 2,
        "seed": 7,
        "logprobs": True,
        "top_logprobs": 3,
        "reasoning_effort": "low",
        "metadata": {"job": "42"},
        "stop": ["\n"],
        "user": "u-1",
        "store": False,
    }
    extra = {"logit_bias": {"deep": [1, 2.5, None, "\u00fc", 10**15, 1e-9]}, "top_k": 40}

    answer = await client.chat.completions.create(
        model="auto", messages=HELLO, **fields, extra_body=extra
    )

    sent = gateway.alpha.last.body
    assert sent == {"messages": HELLO, "model": "alpha-small", **fields, **extra}
    assert answer.model_extra is not None
    received = answer.to_dict()
    del received["waypost"]
    assert received == said


async def test_logs_the_callers_metadata_with_the_turn(gateway, client):
    gateway.alpha.answers = [json_answer(completion())]

    answer = await client.chat.completions.create(
        model="auto",
        messages=HELLO,
        metadata={"job": "42"},
        extra_headers={"x-waypost-task": "greeting", "x-waypost-conversation-id": "c-1"},
    )

    row = await gateway.turn(answer.model_extra["waypost"]["request_id"])
    assert row.metadata == {"job": "42", "task": "greeting"}
    assert row.conversation_id == "c-1"
    assert row.served_model == SMALL
    assert (row.prompt_tokens, row.completion_tokens, row.is_estimated) == (9, 3, False)
    assert row.cost_nusd == 15_000
    assert row.error is None


async def test_keeps_the_gateways_own_object_from_the_provider(gateway, client):
    gateway.alpha.answers = [json_answer(completion())]

    await client.chat.completions.create(
        model="auto", messages=HELLO, extra_body={"waypost": {"willingness_to_pay": 0.5}}
    )

    assert "waypost" not in gateway.alpha.last.body


async def test_serves_a_named_model_as_asked(gateway, client):
    gateway.beta.answers = [json_answer(completion("I am large."))]

    answer = await client.chat.completions.create(model=LARGE, messages=HELLO)

    assert answer.choices[0].message.content == "I am large."
    assert answer.model_extra["waypost"]["reason"] == "named"
    assert gateway.beta.last.body["model"] == "beta-large"


async def test_lists_models_and_profiles(client):
    names = [model.id async for model in client.models.list()]

    assert names == ["auto", "economy", "balanced", "quality", SMALL, LARGE, CLAUDE]


async def test_retrieves_a_model(client):
    model = await client.models.retrieve(SMALL)

    assert model.id == SMALL
    assert model.object == "model"
    assert model.owned_by == "alpha"
    assert model.model_extra["waypost"]["input_usd_per_mtok"] == 1.0


async def test_raw_responses_carry_the_decision_in_headers(gateway, client):
    gateway.alpha.answers = [json_answer(completion())]

    response = await client.chat.completions.with_raw_response.create(model="auto", messages=HELLO)

    headers = response.headers
    assert headers["x-request-id"].startswith("req_")
    assert headers["x-waypost-decision-id"].startswith("dec_")
    assert headers["x-waypost-model"] == SMALL
    assert headers["x-waypost-provider"] == "alpha"
    assert headers["x-waypost-route-reason"] == "router"
    assert headers["x-waypost-propensity"] == "1"
    assert headers["x-waypost-router-version"] == gateway.app.router_version
    assert headers["x-waypost-cost-usd"] == "0.000015000"
    assert headers["x-request-id"] == gateway.alpha.last.headers["x-request-id"]
    assert response.parse().choices[0].message.content == "Hello!"


async def test_the_sdk_explains_a_route_without_any_call_upstream(gateway, client):
    plan = await client.post("/route", cast_to=object, body={"model": "auto", "messages": HELLO})

    assert isinstance(plan, dict)
    assert plan["model"] == SMALL
    assert plan["fallbacks"] == [LARGE]
    assert plan["reason"] == "router"
    assert [c["model"] for c in plan["candidates"]] == [SMALL, LARGE]
    assert all(c["verdict"] == "ok" for c in plan["candidates"])
    assert gateway.alpha.requests == []


@pytest.mark.parametrize("name", ["request_id", "decision_id"])
async def test_the_sdk_grades_an_answer(gateway, client, name):
    gateway.alpha.answers = [json_answer(completion())]
    answer = await client.chat.completions.create(model="auto", messages=HELLO)
    said = answer.model_extra["waypost"]

    taken = await client.post(
        "/feedback", cast_to=object, body={"id": said[name], "score": 1.0, "comment": "fine"}
    )

    assert isinstance(taken, dict)
    assert taken["status"] == "accepted"


async def test_an_answer_that_nobody_got_cannot_be_graded(client):
    with pytest.raises(openai.NotFoundError):
        await client.post("/feedback", cast_to=object, body={"id": "req_nobody", "score": 1.0})


async def test_a_score_out_of_range_is_a_bad_request(client):
    with pytest.raises(openai.BadRequestError) as caught:
        await client.post("/feedback", cast_to=object, body={"id": "req_x", "score": 2})

    assert caught.value.param == "score"
