"""Where a streamed answer ends whose host does not say so."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import ProviderTimeout
from gateway.providers.base import AnswerStream, UpstreamCall
from gateway.providers.factory import build_providers
from gateway.providers.http import HttpClient
from gateway.settings.config import ProviderSettings
from gateway.types import HostedModel, ModelPrice, NativeRequest
from tests.fakes.patience import PATIENCE_S
from tests.fakes.server import serve
from tests.fakes.upstream import (
    Answer,
    ScriptedUpstream,
    anthropic_stream_chunks,
    chunk,
    usage_chunk,
)

ENDING_S = 0.2
PING = b": ping\n\n"
FINISHED = (chunk({"content": "Hello!"}), chunk({}, "stop"))
CLAUDE_FINISHED = tuple(anthropic_stream_chunks()[:-1])
NATIVE = NativeRequest("messages", {"messages": [], "max_tokens": 9})


@asynccontextmanager
async def streaming(
    http: HttpClient,
    answer: Answer,
    kind: str = "openai",
    native: NativeRequest | None = None,
    idle_s: float = 10 * PATIENCE_S,
) -> AsyncIterator[tuple[Any, AnswerStream]]:
    """Stream an answer of a provider that is patient, and that one failure pauses."""
    host = HostedModel("fast", "acme", "claude-sonnet-4-5", ModelPrice(1, 1))
    call = UpstreamCall(
        host, {"messages": [{"role": "user", "content": "Hi"}]}, 1e9, "req-1", native=native
    )
    async with serve(ScriptedUpstream(answer)) as url:
        base = f"{url}/v1"
        limits = {"breaker_failures": 1, "idle_timeout_s": idle_s}
        table = ProviderSettings.model_validate({"base_url": base, "kind": kind, **limits})
        provider: Any = build_providers({"acme": table}, http)["acme"]
        provider.timeouts = replace(provider.timeouts, ending_s=ENDING_S)
        async with provider.stream(call) as stream:
            yield provider, stream


SILENT = {
    "chat": (FINISHED, "openai", None),
    "chat, at once": ((b"".join(FINISHED),), "openai", None),
    "Claude": (CLAUDE_FINISHED, "anthropic", None),
    "Claude, native": (CLAUDE_FINISHED, "anthropic", NATIVE),
}


@pytest.mark.parametrize("case", SILENT.values(), ids=SILENT.keys())
async def test_silence_after_the_reason_to_finish_soon_is_the_end(
    http: HttpClient, case: Any
) -> None:
    pieces, kind, native = case
    answer = Answer(pieces, stalls=True)
    async with streaming(http, answer, kind, native) as (provider, stream):
        _ = [data async for data in stream]
    assert (stream.is_complete, stream.finish_reason) == (True, "stop")
    assert provider.paused() == []


async def test_comments_after_the_reason_to_finish_do_not_keep_an_answer_open(
    http: HttpClient,
) -> None:
    answer = Answer((*FINISHED, *[PING] * 500), stalls=True, pause_s=ENDING_S / 10)
    async with streaming(http, answer) as (provider, stream):
        arrived = b"".join([data async for data in stream])
    assert stream.is_complete
    assert 0 < arrived.count(PING) < 100
    assert provider.paused() == []


async def test_usage_that_follows_the_reason_to_finish_is_waited_for(http: HttpClient) -> None:
    answer = Answer((*FINISHED, usage_chunk(9, 3)), stalls=True, pause_s=ENDING_S / 4)
    async with streaming(http, answer) as (_, stream):
        _ = [data async for data in stream]
    assert stream.usage is not None
    assert stream.usage.completion_tokens == 3


async def test_a_host_that_gives_its_reason_all_along_is_heard_to_the_end(
    http: HttpClient,
) -> None:
    pieces = tuple(chunk({"content": str(n)}, "stop") for n in range(8))
    async with streaming(http, Answer(pieces, pause_s=ENDING_S / 4)) as (_, stream):
        arrived = b"".join([data async for data in stream])
    assert arrived == b"".join(pieces)


async def test_silence_before_the_reason_to_finish_is_none(http: HttpClient) -> None:
    answer = Answer(FINISHED[:1], stalls=True)
    async with streaming(http, answer, idle_s=ENDING_S) as (provider, stream):
        with pytest.raises(ProviderTimeout):
            _ = [data async for data in stream]
    assert provider.paused() == ["claude-sonnet-4-5"]
