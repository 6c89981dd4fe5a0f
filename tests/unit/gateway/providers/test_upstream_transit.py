import asyncio
import random

import orjson
import pytest

from gateway.errors import ProviderUnavailable
from gateway.providers.base import Provider, UpstreamCall
from gateway.providers.factory import build_providers
from gateway.settings.config import ProviderSettings
from gateway.types import HostedModel, ModelPrice
from tests.fakes.server import serve
from tests.fakes.upstream import (
    Answer,
    ScriptedUpstream,
    completion,
    event,
    json_answer,
    stream_answer,
    stream_chunks,
)

OVERLOADED = {"error": {"message": "overloaded", "code": 503}}


async def answered(provider: Provider, call: UpstreamCall, *, is_stream: bool) -> bool:
    """Let `call` be answered; return whether it was upstream once its answer was there."""
    if is_stream:
        async with provider.stream(call):
            return call.transit.is_upstream
    await provider.complete(call)
    return call.transit.is_upstream


@pytest.mark.parametrize(
    ("is_stream", "answers"),
    [
        (False, (json_answer(OVERLOADED), json_answer(completion()))),
        (True, (Answer((event(OVERLOADED),)), stream_answer("Hi"))),
    ],
)
async def test_a_call_whose_answer_was_an_error_is_not_upstream_while_it_waits(
    http, is_stream, answers
):
    call = UpstreamCall(HostedModel("fast", "acme", "a-1", ModelPrice(1, 1)), {}, 100.0, "req-1")
    seen = []

    async def sleep(_: float) -> None:
        seen.append(call.transit.is_upstream)

    async with serve(ScriptedUpstream(*answers), lifespan="off") as url:
        tables = {"acme": ProviderSettings.model_validate({"base_url": f"{url}/v1"})}
        provider = build_providers(
            tables, http, rng=random.Random(1), clock=lambda: 0.0, sleep=sleep
        )["acme"]
        seen.append(await answered(provider, call, is_stream=is_stream))

    assert seen == [False, True]


class BreakingUpstream:
    """Closes the first connection when it has the request, and answers on those after it."""

    def __init__(self, *answer: bytes) -> None:
        self.answer = answer
        self.requests = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        if self.requests > 1:
            writer.writelines((b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", *self.answer))
        writer.close()


@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_attempt_that_broke_after_it_was_sent_is_repeated_by_who_holds_for_it(
    http, is_stream
):
    call = UpstreamCall(HostedModel("fast", "acme", "a-1", ModelPrice(1, 1)), {}, 100.0, "req-1")
    seen = []

    async def sleep(_: float) -> None:
        seen.append(call.transit.is_upstream)

    chunks = stream_chunks("Hi") if is_stream else [orjson.dumps(completion())]
    async with await asyncio.start_server(BreakingUpstream(*chunks), "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        tables = {"acme": ProviderSettings.model_validate({"base_url": f"http://{host}:{port}"})}
        provider = build_providers(
            tables, http, rng=random.Random(1), clock=lambda: 0.0, sleep=sleep
        )["acme"]
        with pytest.raises(ProviderUnavailable) as broken:
            await answered(provider, call, is_stream=is_stream)
        call.transit.attempts = broken.value.attempts
        seen.append(await answered(provider, call, is_stream=is_stream))

    assert seen == [True, True]
    assert call.transit.attempts == 1
    assert provider.condition().retries == 1
