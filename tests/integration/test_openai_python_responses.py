"""OpenAI's own Python SDK asks for responses, as it asks OpenAI, of upstreams of both dialects."""

import asyncio
from typing import Any

import openai
import orjson
import pytest
from pydantic import BaseModel

from tests.fakes.gateway import CLAUDE, SMALL
from tests.fakes.responses import HELLO, PATCH, WEATHER
from tests.fakes.upstream import (
    Answer,
    anthropic_message,
    anthropic_stream_chunks,
    chunk,
    completion,
    json_answer,
    stream_answer,
    stream_chunks,
    usage_chunk,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

BOTH = pytest.mark.parametrize("model", [SMALL, CLAUDE])
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
}
USE = {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Oslo"}}


class Capital(BaseModel):
    """What the structured answers hold."""

    city: str


def calling(*calls: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": None, "tool_calls": list(calls)}
    return completion(choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}])


@pytest.fixture(autouse=True)
def answers(gateway):
    """Both upstreams greet."""
    gateway.alpha.answers = [json_answer(completion())]
    gateway.gamma.answers = [json_answer(anthropic_message())]


@BOTH
async def test_creates_a_response(client, model):
    response = await client.responses.create(model=model, input="Say hello.")

    assert response.output_text == "Hello!"
    assert response.status == "completed"
    assert response.usage.total_tokens == 12
    assert response.id.startswith("resp_")
    assert response._request_id.startswith("req_")
    assert response.model_extra["waypost"]["model"] == model


@BOTH
async def test_streams_a_response(gateway, client, model):
    gateway.alpha.answers = [stream_answer("Hello!")]
    gateway.gamma.answers = [Answer(tuple(anthropic_stream_chunks("Hello!")))]

    async with client.responses.stream(model=model, input="Say hello.") as stream:
        events = [event async for event in stream]
        response = await stream.get_final_response()

    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert deltas == list("Hello!")
    assert response.output_text == "Hello!"
    assert response.usage.output_tokens == 3


@BOTH
async def test_a_round_of_tools(gateway, client, model):
    gateway.alpha.answers = [json_answer(calling(CALL)), json_answer(completion("4 degrees"))]
    gateway.gamma.answers = [
        json_answer(anthropic_message(content=[USE], stop_reason="tool_use")),
        json_answer(anthropic_message("4 degrees")),
    ]
    asked: list[Any] = [{"role": "user", "content": "The weather in Oslo?"}]

    first = await client.responses.create(model=model, input=asked, tools=[WEATHER])
    (call,) = first.output
    assert (call.type, call.name, call.call_id) == ("function_call", "get_weather", "call_1")
    assert orjson.loads(call.arguments) == {"city": "Oslo"}
    asked += [item.to_dict() for item in first.output]
    asked.append({"type": "function_call_output", "call_id": call.call_id, "output": "4"})
    second = await client.responses.create(model=model, input=asked, tools=[WEATHER])

    assert second.output_text == "4 degrees"


async def test_streams_calls_of_tools_in_parallel(gateway, client):
    parts = (
        chunk({"tool_calls": [CALL | {"index": 0}]}),
        chunk({"tool_calls": [CALL | {"index": 1, "id": "call_2"}]}),
        chunk({}, "tool_calls"),
        usage_chunk(),
        b"data: [DONE]\n\n",
    )
    gateway.alpha.answers = [Answer(parts)]

    async with client.responses.stream(**HELLO, tools=[WEATHER]) as stream:
        response = await stream.get_final_response()

    assert [call.call_id for call in response.output] == ["call_1", "call_2"]
    assert [call.arguments for call in response.output] == ['{"city":"Oslo"}'] * 2


@BOTH
async def test_a_custom_tool_is_called_with_a_text(gateway, client, model):
    function = {"name": "apply_patch", "arguments": '{"input":"+ a"}'}
    gateway.alpha.answers = [json_answer(calling(CALL | {"function": function}))]
    use = USE | {"name": "apply_patch", "input": {"input": "+ a"}}
    gateway.gamma.answers = [json_answer(anthropic_message(content=[use], stop_reason="tool_use"))]

    response = await client.responses.create(model=model, input="Edit.", tools=[PATCH])

    (call,) = response.output
    assert (call.type, call.name, call.input) == ("custom_tool_call", "apply_patch", "+ a")


async def test_parses_a_structured_answer(gateway, client):
    gateway.alpha.answers = [json_answer(completion('{"city":"Oslo"}'))]

    response = await client.responses.parse(**HELLO, text_format=Capital)

    assert response.output_parsed == Capital(city="Oslo")
    assert gateway.alpha.last.body["response_format"]["json_schema"]["strict"] is True


async def test_counts_input_tokens(client):
    counted = await client.responses.input_tokens.count(model="auto", input="Say hello.")

    assert counted.input_tokens > 0


async def test_an_answer_that_was_cut_is_incomplete(gateway, client):
    choice = {"index": 0, "message": {"content": "Hel"}, "finish_reason": "length"}
    gateway.alpha.answers = [json_answer(completion(choices=[choice]))]

    response = await client.responses.create(**HELLO, max_output_tokens=16)

    assert (response.status, response.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )


async def test_a_stream_that_is_cut_off_raises_after_what_arrived(gateway, client):
    gateway.alpha.answers = [Answer(tuple(stream_chunks("Hello!")[:4]), cuts_off=True)]
    seen: list[str] = []

    async def read() -> None:
        async for event in await client.responses.create(**HELLO, stream=True):
            seen.append(event.type)  # noqa: PERF401 (what came before the error is kept)

    with pytest.raises(openai.APIError) as error:
        await read()

    assert error.value.code == "provider_cut_off"
    assert "response.output_text.delta" in seen
    assert seen[-1] == "response.failed"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"previous_response_id": "resp_1"}, "send the whole `input`"),
        ({"conversation": "conv_1"}, "store: false"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools.web_search"),
    ],
)
@BOTH
async def test_what_cannot_be_served_is_a_bad_request(gateway, client, model, fields, words):
    with pytest.raises(openai.BadRequestError, match=words) as error:
        await client.responses.create(model=model, input="Say hello.", **fields)

    assert error.value.param is not None
    assert gateway.alpha.requests == gateway.gamma.requests == []


@pytest.mark.parametrize("method", ["retrieve", "delete"])
async def test_no_response_is_stored_and_callers_are_told_what_to_do(client, method):
    with pytest.raises(openai.NotFoundError, match="store: false"):
        await getattr(client.responses, method)("resp_1")
    with pytest.raises(openai.NotFoundError, match="whole `input`"):
        await client.responses.input_items.list("resp_1")


async def test_a_stranger_learns_nothing(gateway):
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="wp-0-x") as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.responses.create(**HELLO)
        with pytest.raises(openai.AuthenticationError):
            await stranger.responses.retrieve("resp_1")


async def test_the_client_without_async_works_too(gateway):
    gateway.alpha.answers = [stream_answer("Hello!")]

    def asked() -> str:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key) as client:
            events = client.responses.create(**HELLO, stream=True)
            return "".join(e.delta for e in events if e.type == "response.output_text.delta")

    assert await asyncio.to_thread(asked) == "Hello!"
