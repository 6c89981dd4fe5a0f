"""Anthropic's own Node SDK drives the gateway, as it drives Anthropic."""

from typing import Any

import pytest
import pytest_asyncio

from tests.fakes.gateway import CLAUDE, SMALL, RunningGateway
from tests.fakes.node import run_script
from tests.fakes.upstream import (
    Answer,
    anthropic_error,
    anthropic_event,
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

CALL = {"id": "call_1", "type": "function", "index": 0}
CALL |= {"function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}}
USE = {"type": "tool_use", "id": "toolu_1", "name": "get_weather"}
PIECE = {"type": "input_json_delta", "partial_json": '{"city":"Oslo"}'}
USED = {"stop_reason": "tool_use", "stop_sequence": None}
# In the order of the checks in messages.mjs that reach a provider, by the model that is asked.
SCRIPTS = {
    SMALL: [
        json_answer(completion()),
        stream_answer("Hello!"),
        Answer(
            (
                chunk({"role": "assistant", "tool_calls": [CALL]}),
                chunk({}, "tool_calls"),
                usage_chunk(),
                b"data: [DONE]\n\n",
            )
        ),
        error_answer(400, "too strange"),
        Answer(tuple(stream_chunks("Hello!")[:3]), cuts_off=True),
    ],
    CLAUDE: [
        json_answer(anthropic_message()),
        Answer(tuple(anthropic_stream_chunks("Hello!"))),
        Answer(
            (
                anthropic_stream_chunks()[0],
                anthropic_event("content_block_start", index=0, content_block=USE | {"input": {}}),
                anthropic_event("content_block_delta", index=0, delta=PIECE),
                anthropic_event("content_block_stop", index=0),
                anthropic_event("message_delta", delta=USED, usage={"output_tokens": 3}),
                anthropic_event("message_stop"),
            )
        ),
        anthropic_error(400, "too strange", "invalid_request_error"),
        Answer(tuple(anthropic_stream_chunks("Hello!")[:5]), cuts_off=True),
    ],
}


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=list(SCRIPTS))
async def results(request: pytest.FixtureRequest, shared_gateway: RunningGateway) -> dict[str, Any]:
    """What the script saw, by check, and the model it asked."""
    model: str = request.param
    shared_gateway.upstreams.reset()
    upstream = shared_gateway.gamma if model == CLAUDE else shared_gateway.alpha
    upstream.answers = list(SCRIPTS[model])
    asked = (shared_gateway.url, shared_gateway.key, model)
    seen: dict[str, Any] = await run_script("messages.mjs", *asked, package="@anthropic-ai/sdk")
    return seen | {"model": model}


async def test_creates_a_message(results):
    message = results["whole"]

    assert message["content"][0]["text"] == "Hello!"
    assert message["stop_reason"] == "end_turn"
    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (9, 3)
    assert message["waypost"]["model"] == results["model"]


async def test_streams_a_message(results):
    streamed = results["stream"]

    assert streamed["texts"] == list("Hello!")
    assert streamed["message"]["content"][0]["text"] == "Hello!"
    assert streamed["message"]["usage"]["output_tokens"] == 3


async def test_streams_a_call_of_a_tool(results):
    message = results["streamed_tool_call"]

    assert message["content"][0]["input"] == {"city": "Oslo"}
    assert message["stop_reason"] == "tool_use"


async def test_counts_tokens_and_lists_models(results):
    assert results["count"]["input_tokens"] > 0
    assert {"auto", SMALL, CLAUDE} <= set(results["models"]["names"])
    assert results["models"]["shown"]["id"] == results["model"]


@pytest.mark.parametrize(
    ("check", "error", "status", "kind"),
    [
        ("wrong_key", "AuthenticationError", 401, "authentication_error"),
        ("unknown_model", "NotFoundError", 404, "not_found_error"),
        ("malformed", "BadRequestError", 400, "invalid_request_error"),
        ("refused", "BadRequestError", 400, "invalid_request_error"),
    ],
)
async def test_errors_have_the_sdks_own_classes(results, check, error, status, kind):
    seen = results[check]

    assert (seen["error"], seen["status"], seen["type"]) == (error, status, kind)
    assert seen["requestID"].startswith("req_")


async def test_a_stream_that_is_cut_off_throws_after_what_arrived(results):
    seen = results["cut_off"]

    assert seen["texts"] == list("Hello!")[: len(seen["texts"])]
    assert seen["texts"]
    assert (seen["error"], seen["type"]) == ("APIError", "api_error")
