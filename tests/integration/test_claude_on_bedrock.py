"""Claude behind Bedrock's InvokeModel, asked on both wires by their vendors' own clients."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from tests.fakes.clouds import framed, framed_answer, framed_exception
from tests.fakes.gateway import CLAUDE, RunningGateway, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.upstream import Answer, anthropic_stream_chunks

pytestmark = pytest.mark.asyncio(loop_scope="session")

HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
STREAM = anthropic_stream_chunks("Hello!")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bedrock(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("bedrock")
    async with running_gateway(folder, also={"gamma": {"kind": "anthropic-bedrock"}}) as running:
        yield running


async def test_a_stream_in_frames_reaches_a_caller_of_messages(bedrock: RunningGateway) -> None:
    bedrock.gamma.answers = [framed_answer(STREAM)]

    async with (
        AsyncAnthropic(
            base_url=bedrock.url, api_key=bedrock.key, max_retries=0, timeout=PATIENCE_S
        ) as client,
        client.messages.stream(model=CLAUDE, max_tokens=9, messages=HELLO) as stream,
    ):
        answer = await stream.get_final_message()

    assert "".join(block.text for block in answer.content if block.type == "text") == "Hello!"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (9, 3)
    assert bedrock.gamma.last.path == "/gamma/model/claude-sonnet-4-5/invoke-with-response-stream"
    assert "model" not in bedrock.gamma.last.body


async def test_a_stream_in_frames_reaches_a_caller_of_chat_and_is_charged(
    bedrock: RunningGateway,
) -> None:
    bedrock.gamma.answers = [framed_answer(STREAM)]

    async with AsyncOpenAI(
        base_url=f"{bedrock.url}/v1", api_key=bedrock.key, max_retries=0, timeout=PATIENCE_S
    ) as client:
        stream = await client.chat.completions.create(
            model=CLAUDE, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        parts = [part async for part in stream]

    assert "".join(p.choices[0].delta.content or "" for p in parts if p.choices) == "Hello!"
    said = parts[-1].model_extra or {}
    assert said["waypost"]["cost_usd"] == pytest.approx(15e-6)


async def test_an_exception_in_mid_stream_ends_it_with_an_error(bedrock: RunningGateway) -> None:
    begun = framed(STREAM[:5])
    bedrock.gamma.answers = [Answer((*begun, framed_exception("throttlingException", "Slow.")))]

    async with bedrock.caller() as caller:
        body = {"model": CLAUDE, "messages": HELLO, "stream": True}
        answer = await caller.post("/v1/chat/completions", json=body)

    assert answer.status_code == 200
    assert b'"error"' in answer.content
    assert b"[DONE]" not in answer.content
