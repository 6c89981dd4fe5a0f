"""What every adapter must do alike, whatever its upstream speaks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.errors import (
    ProviderCutOff,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from gateway.providers.base import AnswerStream, Provider, UpstreamCall
from gateway.providers.factory import build_providers
from gateway.providers.http import HttpClient
from gateway.settings.config import ProviderSettings
from gateway.types import HostedModel, ModelPrice, Usage
from tests.fakes.clouds import FRAMES, aws_error, framed
from tests.fakes.patience import PATIENCE_S
from tests.fakes.server import serve
from tests.fakes.upstream import (
    EVENTS,
    Answer,
    ScriptedUpstream,
    anthropic_error,
    anthropic_message,
    anthropic_stream_chunks,
    completion,
    error_answer,
    json_answer,
    stream_chunks,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "streams"
KEY = "sk-very-secret"


@dataclass(frozen=True)
class Kind:
    """One adapter and how its upstream answers."""

    settings: dict[str, Any]
    whole: Any
    stream: list[bytes]
    begun: list[bytes]
    error: Callable[[int, str, str], Answer]
    headers: dict[str, str] = field(default_factory=lambda: EVENTS)

    def begins(self, **ending: Any) -> Answer:
        """Answer with the beginning of a stream."""
        return Answer(tuple(self.begun), headers=self.headers, **ending)


def openai_error(status: int, message: str, kind: str) -> Answer:
    return error_answer(status, message, type=kind)


OPENAI = Kind({}, completion(), stream_chunks("Hello!"), stream_chunks("Hel")[:4], openai_error)
KINDS = {
    "openai": OPENAI,
    "azure": Kind(
        {"kind": "azure", "api_version": "2024-10-21"},
        OPENAI.whole,
        OPENAI.stream,
        OPENAI.begun,
        openai_error,
    ),
    "anthropic": Kind(
        {"kind": "anthropic"},
        anthropic_message(),
        anthropic_stream_chunks("Hello!"),
        anthropic_stream_chunks("Hel")[:6],
        anthropic_error,
    ),
    "bedrock": Kind(
        {"kind": "anthropic-bedrock"},
        anthropic_message(),
        framed(anthropic_stream_chunks("Hello!")),
        framed(anthropic_stream_chunks("Hel")[:6]),
        aws_error,
        FRAMES,
    ),
    "vertex": Kind(
        {"kind": "anthropic-vertex"},
        anthropic_message(),
        anthropic_stream_chunks("Hello!"),
        anthropic_stream_chunks("Hel")[:6],
        anthropic_error,
    ),
}


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    client = HttpClient.open()
    yield client
    await client.aclose()


def provider_at(url: str, kind: Kind, http: HttpClient, **settings: Any) -> Provider:
    table = {"base_url": url, "api_key": KEY, "max_retries": 0, **kind.settings, **settings}
    return build_providers({"acme": ProviderSettings.model_validate(table)}, http)["acme"]


def call() -> UpstreamCall:
    model = HostedModel("fast", "acme", "up", ModelPrice(1, 1))
    body = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}]}
    return UpstreamCall(model, body, asyncio.get_running_loop().time() + 20, "req-1")


async def collect(stream: AnswerStream, into: list[bytes]) -> None:
    async for data in stream:
        into.append(data)  # noqa: PERF401 - what came before an error counts


def text_of(forwarded: bytes) -> str:
    events = [e[6:] for e in forwarded.split(b"\n\n") if e.startswith(b"data: ")]
    deltas = [choice["delta"] for e in events for choice in orjson.loads(e)["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


async def test_answers_in_openais_form(kind: Kind, http: HttpClient) -> None:
    async with serve(ScriptedUpstream(json_answer(kind.whole))) as url:
        answer = await provider_at(url, kind, http).complete(call())
    assert answer.body["object"] == "chat.completion"
    assert answer.body["choices"][0]["message"]["content"] == "Hello!"
    assert answer.usage == Usage(9, 3)
    assert answer.finish_reason == "stop"


async def test_streams_in_openais_form_without_usage_and_done(kind: Kind, http: HttpClient) -> None:
    received: list[bytes] = []
    async with (
        serve(ScriptedUpstream(Answer(tuple(kind.stream), headers=kind.headers))) as url,
        provider_at(url, kind, http).stream(call()) as stream,
    ):
        await collect(stream, received)
    forwarded = b"".join(received)
    assert text_of(forwarded) == "Hello!"
    assert b"[DONE]" not in forwarded
    assert b'"usage":{' not in forwarded
    assert stream.usage == Usage(9, 3)
    assert stream.finish_reason == "stop"
    assert stream.usage_event is not None
    assert stream.head is not None
    assert stream.head["id"]
    assert stream.forwarded_events >= 8


async def test_forwards_before_the_upstream_has_ended(kind: Kind, http: HttpClient) -> None:
    upstream = ScriptedUpstream(kind.begins(stalls=True))
    async with serve(upstream) as url, provider_at(url, kind, http).stream(call()) as stream:
        events = aiter(stream)
        forwarded = b""
        while text_of(forwarded) != "Hel":
            forwarded += await anext(events)


async def test_leaving_the_stream_closes_the_upstream_connection(
    kind: Kind, http: HttpClient
) -> None:
    upstream = ScriptedUpstream(kind.begins(stalls=True))
    async with serve(upstream) as url:
        async with provider_at(url, kind, http).stream(call()) as stream:
            await anext(aiter(stream))
        async with asyncio.timeout(PATIENCE_S):
            await upstream.last.has_disconnected.wait()


async def test_cancelling_a_stream_that_has_not_begun_closes_the_connection(
    kind: Kind, http: HttpClient
) -> None:
    async def enter(provider: Provider) -> None:
        async with provider.stream(call()):
            pass

    upstream = ScriptedUpstream(Answer((b": wait\n\n",), stalls=True))
    async with serve(upstream) as url:
        entering = asyncio.create_task(enter(provider_at(url, kind, http)))
        received = await upstream.next_request()
        entering.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await received.has_disconnected.wait()
        with pytest.raises(asyncio.CancelledError):
            await entering


@pytest.mark.parametrize("ending", [{"cuts_off": True}, {}])
async def test_half_a_stream_is_cut_off(
    kind: Kind, http: HttpClient, ending: dict[str, Any]
) -> None:
    received: list[bytes] = []
    upstream = ScriptedUpstream(kind.begins(**ending))
    async with serve(upstream) as url, provider_at(url, kind, http).stream(call()) as stream:
        with pytest.raises(ProviderCutOff):
            await collect(stream, received)
    assert text_of(b"".join(received)) == "Hel"


async def test_a_stalled_stream_times_out(kind: Kind, http: HttpClient) -> None:
    upstream = ScriptedUpstream(kind.begins(stalls=True))
    async with serve(upstream) as url:
        provider = provider_at(url, kind, http, idle_timeout_s=0.05)
        async with provider.stream(call()) as stream:
            with pytest.raises(ProviderTimeout):
                await collect(stream, [])


@pytest.mark.parametrize(
    ("status", "error_type", "expected"),
    [
        (400, "invalid_request_error", ProviderRejected),
        (413, "request_too_large", ProviderRejected),
        (422, "invalid_request_error", ProviderRejected),
        (401, "authentication_error", ProviderMisconfigured),
        (403, "permission_error", ProviderMisconfigured),
        (404, "not_found_error", ProviderMisconfigured),
        (429, "rate_limit_error", ProviderUnavailable),
        (500, "api_error", ProviderUnavailable),
        (529, "overloaded_error", ProviderUnavailable),
    ],
)
async def test_judges_the_upstreams_errors_alike(
    kind: Kind, http: HttpClient, status: int, error_type: str, expected: type[Exception]
) -> None:
    message = f"no, not with {KEY}"
    async with serve(ScriptedUpstream(kind.error(status, message, error_type))) as url:
        provider = provider_at(url, kind, http)
        with pytest.raises(expected) as whole:
            await provider.complete(call())
        with pytest.raises(expected) as streamed:
            async with provider.stream(call()):
                pass
        for caught in (whole.value, streamed.value):
            told = f"{caught} {getattr(caught, 'body', None)}"
            assert KEY not in told
            assert url not in told
            assert caught.provider == "acme"  # type: ignore[attr-defined]


async def test_passes_the_upstreams_words_about_the_request_on(
    kind: Kind, http: HttpClient
) -> None:
    refusal = kind.error(400, "max_tokens is too large", "invalid_request_error")
    async with serve(ScriptedUpstream(refusal)) as url:
        with pytest.raises(ProviderRejected) as caught:
            await provider_at(url, kind, http).complete(call())
    assert caught.value.body is not None
    assert caught.value.body["message"] == "max_tokens is too large"
    assert caught.value.body["type"] == "invalid_request_error"


@pytest.mark.parametrize("name", ["openai", "anthropic", "anthropic_tools"])
async def test_streams_stay_as_they_are_on_the_wire(http: HttpClient, name: str) -> None:
    """`NAME.upstream.sse` is what the provider sent; `NAME.forwarded.sse` what callers get."""
    dialect = KINDS[name.partition("_")[0]]
    sent = (GOLDEN / f"{name}.upstream.sse").read_bytes()
    received: list[bytes] = []
    async with (
        serve(ScriptedUpstream(Answer((sent,)))) as url,
        provider_at(url, dialect, http).stream(call()) as stream,
    ):
        await collect(stream, received)
    usage = orjson.dumps(stream.usage_event, option=orjson.OPT_SORT_KEYS)
    created = str((stream.head or {})["created"]).encode()
    forwarded = b"".join(received) + b"usage: " + usage + b"\n"
    stable = forwarded.replace(b'"created":' + created, b'"created":0')
    assert stable == (GOLDEN / f"{name}.forwarded.sse").read_bytes()
