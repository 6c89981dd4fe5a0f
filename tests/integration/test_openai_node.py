"""OpenAI's own Node SDK drives the gateway, as it drives OpenAI."""

from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.fakes.gateway import LARGE, SMALL, RunningGateway
from tests.fakes.node import run_script
from tests.fakes.upstream import (
    Answer,
    chunk,
    completion,
    error_answer,
    json_answer,
    stream_answer,
    stream_chunks,
    usage_chunk,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

FUNCTION = {"name": "get_weather", "arguments": '{"city":"Oslo"}'}
CALL = {"id": "call_1", "type": "function", "function": FUNCTION}
TOOL_CHOICE = {
    "index": 0,
    "message": {"role": "assistant", "content": None, "tool_calls": [CALL]},
    "finish_reason": "tool_calls",
}
STREAMED_CALL = (
    chunk({"role": "assistant", "tool_calls": [{**CALL, "index": 0}]}),
    chunk({}, "tool_calls"),
    usage_chunk(),
    b"data: [DONE]\n\n",
)
# In the order of the checks in conformance.mjs that reach a provider.
SCRIPT = [
    json_answer(completion("Hello!", x_host={"gpu": "h100"})),
    json_answer(completion()),
    stream_answer("Hello!"),
    stream_answer("Hello!"),
    json_answer(completion(choices=[TOOL_CHOICE])),
    Answer(STREAMED_CALL),
    json_answer(completion('{"city":"Oslo"}')),
    json_answer(completion("Hello!")),
    Answer(STREAMED_CALL),
    json_answer(completion()),
    error_answer(500, "oh no"),
    Answer(tuple(stream_chunks("Hello!")[:3]), cuts_off=True),
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def results(shared_gateway: RunningGateway) -> dict[str, Any]:
    """What the script saw, by check."""
    shared_gateway.upstreams.reset()
    shared_gateway.alpha.answers = list(SCRIPT)
    url, key = f"{shared_gateway.url}/v1", shared_gateway.key
    seen: dict[str, Any] = await run_script("conformance.mjs", url, key, package="openai")
    seen["sent"] = [received.body for received in shared_gateway.alpha.requests]
    return seen


async def test_gets_a_whole_answer_with_every_unknown_field(results):
    answer = results["whole"]

    assert answer["choices"][0]["message"]["content"] == "Hello!"
    assert answer["x_host"] == {"gpu": "h100"}
    assert answer["waypost"]["model"] == SMALL
    assert results["sent"][0] == {
        "model": "alpha-small",
        "messages": [{"role": "user", "content": "Say hello."}],
        "seed": 7,
        "chat_template_kwargs": {"deep": [1, None]},
    }


async def test_reads_the_request_id_and_the_decision_from_headers(results):
    assert results["headers"]["request_id"].startswith("req_")
    assert results["headers"]["model"] == SMALL


async def test_streams_without_a_usage_chunk_unless_asked(results):
    chunks = results["stream"]

    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "Hello!"
    assert not any("usage" in c for c in chunks)


async def test_streams_usage_and_the_decision_when_asked(results):
    last = results["stream_with_usage"][-1]

    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 12
    assert last["waypost"]["model"] == SMALL


@pytest.mark.parametrize("check", ["tool_call", "streamed_tool_call"])
async def test_calls_a_tool(results, check):
    choice = results[check]["choices"][0]

    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"city":"Oslo"}'


async def test_gets_a_structured_answer(results):
    content = results["structured"]["choices"][0]["message"]["content"]

    assert orjson.loads(content) == {"city": "Oslo"}
    assert results["sent"][6]["response_format"]["type"] == "json_schema"


async def test_gets_a_response_of_the_responses_api(results):
    assert results["response"]["text"] == "Hello!"
    assert results["response"]["status"] == "completed"
    assert results["response"]["usage"]["total_tokens"] == 12


async def test_streams_a_response_of_the_responses_api(results):
    seen = results["streamed_response"]

    (call,) = seen["output"]
    assert (call["type"], call["arguments"]) == ("function_call", '{"city":"Oslo"}')
    assert seen["kinds"][0] == "response.created"
    assert seen["kinds"][-1] == "response.completed"


async def test_lists_and_retrieves_models(results):
    assert results["models"]["names"][:2] == ["auto", "economy"]
    assert {SMALL, LARGE} <= set(results["models"]["names"])
    assert results["models"]["small"]["owned_by"] == "alpha"


async def test_explains_a_route_and_grades_an_answer(results):
    assert results["route"]["model"] == SMALL
    assert results["route"]["fallbacks"] == [LARGE]
    assert results["feedback"]["status"] == "accepted"


@pytest.mark.parametrize(
    ("check", "error", "status", "code"),
    [
        ("wrong_key", "AuthenticationError", 401, "invalid_api_key"),
        ("unknown_model", "NotFoundError", 404, "model_not_found"),
        ("malformed", "BadRequestError", 400, "invalid_request"),
        ("provider_down", "InternalServerError", 503, "provider_unavailable"),
    ],
)
async def test_errors_have_the_sdks_own_classes(results, check, error, status, code):
    seen = results[check]

    assert (seen["error"], seen["status"], seen["code"]) == (error, status, code)


async def test_a_stream_that_is_cut_off_throws_after_what_arrived(results):
    seen = results["cut_off"]

    assert seen["chunks"] == ["", "H", "e"]
    assert seen["error"] == "APIError"
    assert seen["code"] == "provider_cut_off"
