"""Anthropic's own Python SDK drives the gateway, as it drives Anthropic."""

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
import pytest_asyncio

from tests.fakes.gateway import CLAUDE, SMALL, RunningGateway
from tests.fakes.messages import HELLO, WEATHER
from tests.fakes.patience import PATIENCE_S
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

DONE = b"data: [DONE]\n\n"
BOTH = pytest.mark.parametrize("model", [SMALL, CLAUDE])


@pytest_asyncio.fixture(loop_scope="session")
async def claude(gateway: RunningGateway) -> AsyncIterator[Any]:
    """The SDK with a key of the gateway's."""
    async with anthropic.AsyncAnthropic(
        base_url=gateway.url, api_key=gateway.key, max_retries=0, timeout=PATIENCE_S
    ) as client:
        gateway.alpha.answers = [json_answer(completion())]
        gateway.gamma.answers = [json_answer(anthropic_message())]
        yield client


def call_part(index: int, arguments: str, name: str | None = None) -> dict[str, Any]:
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    opening = {} if name is None else {"id": f"call_{index}", "type": "function"}
    return {"tool_calls": [{"index": index, "function": function, **opening}]}


@BOTH
async def test_creates_a_message(claude, model):
    message = await claude.messages.create(**HELLO | {"model": model})

    assert message.content[0].text == "Hello!"
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (9, 3)
    assert message._request_id.startswith("req_")
    assert message.to_dict()["waypost"]["model"] == model


@BOTH
async def test_streams_a_message(gateway, claude, model):
    gateway.alpha.answers = [stream_answer("Hello!")]
    gateway.gamma.answers = [Answer(tuple(anthropic_stream_chunks("Hello!")))]

    async with claude.messages.stream(**HELLO | {"model": model}) as stream:
        texts = [text async for text in stream.text_stream]
        message = await stream.get_final_message()

    assert texts == list("Hello!")
    assert message.content[0].text == "Hello!"
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (9, 3)


async def test_streams_calls_of_tools_whose_parts_come_mixed(gateway, claude):
    gateway.alpha.answers = [
        Answer(
            (
                chunk({"content": "I look."}),
                chunk(call_part(0, "", "get_weather")),
                chunk(call_part(1, "", "get_weather")),
                chunk(call_part(0, '{"city":')),
                chunk(call_part(1, '{"city":"Rome"}')),
                chunk(call_part(0, '"Oslo"}')),
                chunk({}, "tool_calls"),
                usage_chunk(),
                DONE,
            )
        )
    ]

    async with claude.messages.stream(**HELLO, tools=[WEATHER]) as stream:
        message = await stream.get_final_message()

    assert [block.type for block in message.content] == ["text", "tool_use", "tool_use"]
    assert [block.input for block in message.content[1:]] == [{"city": "Oslo"}, {"city": "Rome"}]
    assert [block.id for block in message.content[1:]] == ["call_0", "call_1"]
    assert message.stop_reason == "tool_use"


async def test_thinking_keeps_its_signature(gateway, claude):
    gateway.gamma.answers = [
        Answer(
            (
                anthropic_stream_chunks()[0],
                anthropic_event(
                    "content_block_start",
                    index=0,
                    content_block={"type": "thinking", "thinking": "", "signature": ""},
                ),
                anthropic_event(
                    "content_block_delta",
                    index=0,
                    delta={"type": "thinking_delta", "thinking": "Hm."},
                ),
                anthropic_event(
                    "content_block_delta",
                    index=0,
                    delta={"type": "signature_delta", "signature": "c2lnbmVk"},
                ),
                anthropic_event("content_block_stop", index=0),
                *anthropic_stream_chunks()[-2:],
            )
        )
    ]
    thinking = {"type": "enabled", "budget_tokens": 1024}
    asked = HELLO | {"model": CLAUDE, "max_tokens": 2000, "thinking": thinking}

    async with claude.messages.stream(**asked) as stream:
        message = await stream.get_final_message()

    assert (message.content[0].thinking, message.content[0].signature) == ("Hm.", "c2lnbmVk")


@BOTH
async def test_sends_betas(gateway, claude, model):
    message = await claude.beta.messages.create(
        **HELLO | {"model": model}, betas=["context-management-2025-06-27"]
    )

    assert message.content[0].text == "Hello!"
    told = {"alpha": None, "gamma": "context-management-2025-06-27"}
    upstream = gateway.upstreams.by_name["gamma" if model == CLAUDE else "alpha"]
    assert (
        upstream.last.headers.get("anthropic-beta")
        == told[message.to_dict()["waypost"]["provider"]]
    )


async def test_counts_tokens_and_lists_models(claude):
    counted = await claude.messages.count_tokens(model="auto", messages=HELLO["messages"])
    listed = [model.id async for model in claude.models.list(limit=2)]
    shown = await claude.models.retrieve(CLAUDE)

    assert counted.input_tokens > 0
    assert {"auto", SMALL, CLAUDE} <= set(listed)
    assert shown.id == CLAUDE


async def test_errors_are_the_sdks_own(gateway, claude):
    with pytest.raises(anthropic.NotFoundError, match="nobody"):
        await claude.messages.create(**HELLO | {"model": "nobody"})
    with pytest.raises(anthropic.AuthenticationError):
        await claude.with_options(api_key="wp-000000000000-AAAA").messages.create(**HELLO)
    gateway.gamma.answers = [anthropic_error(400, "too strange", "invalid_request_error")]
    with pytest.raises(anthropic.BadRequestError, match="too strange") as refused:
        await claude.messages.create(**HELLO | {"model": CLAUDE})
    gateway.alpha.answers = gateway.beta.answers = [error_answer(500, "oh no")]
    with pytest.raises(anthropic.APIStatusError) as failed:
        await claude.messages.create(**HELLO)

    assert str(refused.value.request_id).startswith("req_")
    assert (failed.value.status_code, failed.value.type) == (529, "overloaded_error")


@BOTH
async def test_a_stream_that_fails_raises(gateway, claude, model):
    gateway.alpha.answers = [Answer(tuple(stream_chunks("Hello!")[:4]), cuts_off=True)]
    gateway.gamma.answers = [Answer(tuple(anthropic_stream_chunks("Hello!")[:5]), cuts_off=True)]

    with pytest.raises(anthropic.APIStatusError) as failed:
        async for _ in await claude.messages.create(**HELLO | {"model": model}, stream=True):
            pass

    assert failed.value.type == "api_error"
