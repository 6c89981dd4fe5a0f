import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from gateway.errors import ProviderCutOff
from gateway.providers.anthropic import AnthropicDialect
from gateway.providers.base import Provider, UpstreamCall
from gateway.providers.factory import build_providers
from gateway.providers.http import HttpClient
from gateway.providers.openai_compatible import AzureDialect, OpenAIDialect
from gateway.settings.config import ProviderSettings
from gateway.types import HostedModel, ModelPrice, Usage
from tests.fakes.patience import PATIENCE_S
from tests.fakes.server import serve
from tests.fakes.upstream import (
    Answer,
    ScriptedUpstream,
    chunk,
    completion,
    json_answer,
    stream_answer,
    stream_chunks,
)


def provider_at(url: str, http: HttpClient, **settings: Any) -> Provider:
    table = {"base_url": f"{url}/v1", "api_key": "sk-secret", **settings}
    return build_providers({"acme": ProviderSettings.model_validate(table)}, http)["acme"]


def call_of(body: Mapping[str, Any] | None = None, **model: Any) -> UpstreamCall:
    hosted = HostedModel("fast", "acme", "acme-1", ModelPrice(1, 1), **model)
    asked = body or {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
    deadline_s = asyncio.get_running_loop().time() + PATIENCE_S
    return UpstreamCall(hosted, asked, deadline_s, "req-1")


async def test_sends_the_body_under_the_upstream_name_with_the_key(http: HttpClient) -> None:
    upstream = ScriptedUpstream(json_answer(completion()))
    async with serve(upstream) as url:
        call = call_of({"model": "auto", "messages": [], "x_unknown": {"a": 1}, "stream": False})
        await provider_at(url, http).complete(call)
    assert upstream.last.body == {"model": "acme-1", "messages": [], "x_unknown": {"a": 1}}
    assert upstream.last.path == "/v1/chat/completions"
    assert upstream.last.headers["authorization"] == "Bearer sk-secret"
    assert upstream.last.headers["x-request-id"] == "req-1"
    assert upstream.last.headers["accept-encoding"] == "identity"


async def test_passes_unknown_fields_of_the_answer_on(http: HttpClient) -> None:
    body = completion(service_tier="flex", x_new={"deep": [1]})
    async with serve(ScriptedUpstream(json_answer(body))) as url:
        answer = await provider_at(url, http).complete(call_of())
    assert answer.body == body
    assert answer.usage == Usage(9, 3)
    assert answer.finish_reason == "stop"
    assert answer.attempts == 1


async def test_does_not_touch_the_callers_body(http: HttpClient) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
    async with serve(ScriptedUpstream(json_answer(completion()))) as url:
        call = call_of(body, system_prompt="Be brief.", request_defaults={"temperature": 0})
        await provider_at(url, http).complete(call)
    assert body == {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}


async def test_forwards_events_byte_for_byte_without_usage_and_done(http: HttpClient) -> None:
    chunks = stream_chunks("Hello!")
    upstream = ScriptedUpstream(stream_answer("Hello!"))
    async with serve(upstream) as url, provider_at(url, http).stream(call_of()) as stream:
        forwarded = b"".join([data async for data in stream])
    assert forwarded == b"".join(chunks[:-2])
    assert stream.usage == Usage(9, 3)
    assert stream.usage_event is not None
    assert stream.usage_event["choices"] == []
    assert stream.finish_reason == "stop"
    assert stream.head == {
        "id": "chatcmpl-1",
        "created": 1_700_000_000,
        "model": "upstream-model",
    }
    assert stream.forwarded_events == 8


async def test_always_asks_for_usage_in_streams(http: HttpClient) -> None:
    upstream = ScriptedUpstream(stream_answer())
    async with serve(upstream) as url:
        body = {"model": "auto", "messages": [], "stream_options": {"include_obfuscation": False}}
        async with provider_at(url, http).stream(call_of(body)) as stream:
            _ = [data async for data in stream]
    assert upstream.last.body["stream"] is True
    assert upstream.last.body["stream_options"] == {
        "include_obfuscation": False,
        "include_usage": True,
    }


async def test_forwards_each_event_as_soon_as_it_is_whole(http: HttpClient) -> None:
    upstream = ScriptedUpstream(Answer((chunk({"content": "a"}), b'data: {"id"'), stalls=True))
    async with serve(upstream) as url, provider_at(url, http).stream(call_of()) as stream:
        first = await anext(aiter(stream))
    assert first == chunk({"content": "a"})


async def test_leaving_a_stream_cancels_the_upstream_call(http: HttpClient) -> None:
    upstream = ScriptedUpstream(Answer((chunk({"content": "a"}),), stalls=True))
    async with serve(upstream) as url:
        async with provider_at(url, http).stream(call_of()) as stream:
            await anext(aiter(stream))
        async with asyncio.timeout(PATIENCE_S):
            await upstream.last.has_disconnected.wait()


async def test_cancelling_a_call_closes_the_upstream_connection(http: HttpClient) -> None:
    upstream = ScriptedUpstream(Answer(stalls_at_once=True))
    async with serve(upstream) as url:
        asking = asyncio.create_task(provider_at(url, http).complete(call_of()))
        async with asyncio.timeout(PATIENCE_S):
            received = await upstream.next_request()
            asking.cancel()
            await received.has_disconnected.wait()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_an_upstream_that_is_cut_off_is_never_taken_for_complete(http: HttpClient) -> None:
    answer = Answer((chunk({"content": "a"}), chunk({"content": "b"})), cuts_off=True)
    async with serve(ScriptedUpstream(answer)) as url:
        forwarded = []
        async with provider_at(url, http).stream(call_of()) as stream:
            with pytest.raises(ProviderCutOff):
                forwarded = [data async for data in stream]
    assert forwarded == []


async def test_reuses_the_connection_after_a_whole_stream(http: HttpClient) -> None:
    upstream = ScriptedUpstream(stream_answer())
    async with serve(upstream) as url:
        provider = provider_at(url, http)
        for _ in range(2):
            async with provider.stream(call_of()) as stream:
                _ = [data async for data in stream]
        assert http.connections == (1, 1)


async def test_azure_names_the_deployment_and_the_version_in_the_url(http: HttpClient) -> None:
    upstream = ScriptedUpstream(json_answer(completion()))
    async with serve(upstream) as url:
        azure = ProviderSettings.model_validate(
            {"kind": "azure", "base_url": url, "api_key": "k", "api_version": "2024-10-21"}
        )
        provider = build_providers({"az": azure}, http)["az"]
        await provider.complete(call_of())
    assert upstream.last.path == "/openai/deployments/acme-1/chat/completions"
    assert upstream.last.query == "api-version=2024-10-21"
    assert upstream.last.headers["api-key"] == "k"
    assert "authorization" not in upstream.last.headers


def encoded(body: Mapping[str, Any], **model: Any) -> Any:
    hosted = HostedModel("fast", "acme", "acme-1", ModelPrice(1, 1), **model)
    call = UpstreamCall(hosted, body, 1.0, "r")
    return orjson.loads(OpenAIDialect("acme", "http://a").encode(call, is_stream=False))


HI = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], [{"role": "system", "content": "P"}]),
        ([HI], [{"role": "system", "content": "P"}, HI]),
        (
            [{"role": "system", "content": "S"}, HI],
            [{"role": "system", "content": "P\n\nS"}, HI],
        ),
        (
            [{"role": "developer", "content": None}],
            [{"role": "system", "content": "P"}],
        ),
        (
            [{"role": "system", "content": [{"type": "text", "text": "S"}]}],
            [
                {
                    "role": "system",
                    "content": [{"type": "text", "text": "P"}, {"type": "text", "text": "S"}],
                }
            ],
        ),
    ],
)
def test_puts_the_models_prompt_before_the_callers(messages: Any, expected: Any) -> None:
    assert encoded({"messages": messages}, system_prompt="P")["messages"] == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"temperature": 0.5, "max_tokens": 10}),
        ({"temperature": 1}, {"temperature": 1, "max_tokens": 10}),
        ({"temperature": None}, {"temperature": 0.5, "max_tokens": 10}),
        ({"max_completion_tokens": 5}, {"temperature": 0.5, "max_completion_tokens": 5}),
        ({"max_tokens": 5}, {"temperature": 0.5, "max_tokens": 5}),
    ],
)
def test_fills_in_what_the_caller_left_out(body: Any, expected: Any) -> None:
    sent = encoded(body, request_defaults={"temperature": 0.5, "max_tokens": 10})
    assert sent == {"model": "acme-1", **expected}


def test_does_not_ask_for_stream_options_without_a_stream() -> None:
    sent = encoded({"stream": True, "stream_options": {"include_usage": True}})
    assert sent == {"model": "acme-1"}


def test_an_answer_without_choices_has_no_finish_reason() -> None:
    answer = OpenAIDialect("acme", "http://a").decode(call_without_body(), {"choices": []})
    assert answer.finish_reason is None
    assert answer.usage is None


@pytest.mark.parametrize(("n", "is_complete"), [(None, True), ("two", True), (2, False)])
def test_waits_for_as_many_choices_as_were_asked_for(n: object, is_complete: bool) -> None:  # noqa: FBT001
    call = UpstreamCall(call_without_body().model, {"n": n}, 1.0, "r")
    tap = OpenAIDialect("acme", "http://a").tap(call)
    tap.feed(chunk({}, "stop"))
    tap.finish()
    assert (tap.error is None) is is_complete


def call_without_body() -> UpstreamCall:
    return UpstreamCall(HostedModel("fast", "acme", "acme-1", ModelPrice(1, 1)), {}, 1.0, "r")


def test_other_endpoints_are_beside_the_chats() -> None:
    openai = OpenAIDialect("p", "https://a/v1/")
    azure = AzureDialect("p", "https://b/openai", api_version="1")
    claude = AnthropicDialect("p", "https://c/v1")

    assert openai.address("/embeddings", "m") == "https://a/v1/embeddings"
    assert azure.address("/embeddings", "a/b") == (
        "https://b/openai/deployments/a%2Fb/embeddings?api-version=1"
    )
    assert azure.address("/files", None) == "https://b/openai/files?api-version=1"
    assert claude.address("/files/x", None) == "https://c/v1/files/x"


def test_of_a_reason_to_finish_of_any_length_the_beginning_is_kept() -> None:
    said = {"choices": [{"finish_reason": "stop" * 100_000}]}
    answer = OpenAIDialect("acme", "http://a").decode(call_without_body(), said)
    assert answer.finish_reason == "stop" * 16
    assert answer.body == said
