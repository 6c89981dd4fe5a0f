import asyncio
import logging
import random
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
from gateway.providers import upstream as upstream_module
from gateway.providers.base import AnswerStream, Provider, UpstreamCall
from gateway.providers.factory import build_providers
from gateway.providers.http import HttpClient
from gateway.settings.config import ProviderSettings
from gateway.types import HostedModel, ModelPrice
from tests.fakes.clocks import skip_ahead
from tests.fakes.patience import PATIENCE_S
from tests.fakes.server import free_port, serve
from tests.fakes.upstream import (
    Answer,
    ScriptedUpstream,
    chunk,
    completion,
    error_answer,
    event,
    json_answer,
    stream_answer,
    stream_chunks,
    usage_chunk,
)


class FakeTime:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def provider_at(
    url: str, http: HttpClient, time: FakeTime | None = None, **settings: Any
) -> Provider:
    time = time or FakeTime()
    table = {"base_url": f"{url}/v1", "api_key": "sk-secret", **settings}
    tables = {"acme": ProviderSettings.model_validate(table)}
    rng = random.Random(1)
    return build_providers(tables, http, rng=rng, clock=time.clock, sleep=time.sleep)["acme"]


def call_of(deadline_s: float = 1000.0, **body: Any) -> UpstreamCall:
    hosted = HostedModel("fast", "acme", "acme-1", ModelPrice(1, 1))
    return UpstreamCall(hosted, {"messages": [], **body}, deadline_s, "req-1")


async def consumed(provider: Provider, **body: Any) -> bytes:
    async with provider.stream(call_of(**body)) as stream:
        return b"".join([data async for data in stream])


async def collect(stream: AnswerStream, into: list[bytes]) -> None:
    """Keep what came even where an error follows."""
    async for data in stream:
        into.append(data)  # noqa: PERF401


async def test_tries_again_before_the_first_byte(http: HttpClient) -> None:
    time = FakeTime()
    upstream = ScriptedUpstream(
        error_answer(503, "down"), error_answer(429, "slow"), json_answer(completion())
    )
    async with serve(upstream) as url:
        answer = await provider_at(url, http, time).complete(call_of())
    assert answer.attempts == 3
    assert len(upstream.requests) == 3
    assert len(time.slept) == 2


async def test_waits_as_long_as_the_provider_asks(http: HttpClient) -> None:
    time = FakeTime()
    busy = error_answer(429, "slow", headers={"retry-after": "4"})
    upstream = ScriptedUpstream(busy, stream_answer())
    async with serve(upstream) as url, provider_at(url, http, time).stream(call_of()) as stream:
        _ = [data async for data in stream]
    assert time.slept == [4.0]
    assert stream.attempts == 2


async def test_passes_a_rejection_on_without_trying_again(http: HttpClient) -> None:
    upstream = ScriptedUpstream(error_answer(400, "bad temperature", param="temperature"))
    async with serve(upstream) as url:
        provider = provider_at(url, http, breaker_failures=1)
        with pytest.raises(ProviderRejected) as caught:
            await provider.complete(call_of())
        assert "acme-1" not in provider.paused()
    assert caught.value.body == {
        "message": "bad temperature",
        "type": "error",
        "param": "temperature",
        "code": None,
    }
    assert len(upstream.requests) == 1


async def test_tells_the_operator_but_not_the_caller_of_a_bad_key(
    http: HttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = error_answer(401, "Bad key sk-secret", code="invalid_api_key")
    async with serve(ScriptedUpstream(refusal)) as url:
        with caplog.at_level(logging.WARNING), pytest.raises(ProviderMisconfigured) as caught:
            await consumed(provider_at(url, http))
        assert url not in caught.value.message
    assert "sk-secret" not in caught.value.message
    assert "reason invalid_api_key" in caplog.text
    assert "Bad key" not in caplog.text


async def test_an_unreachable_provider_is_unavailable(http: HttpClient) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ProviderUnavailable) as caught:
        await provider_at(url, http).complete(call_of())
    assert "127.0.0.1" not in caught.value.message


async def test_pauses_a_model_that_keeps_failing(http: HttpClient) -> None:
    upstream = ScriptedUpstream(error_answer(500, "boom"))
    async with serve(upstream) as url:
        provider = provider_at(url, http, breaker_failures=2, max_retries=5)
        with pytest.raises(ProviderUnavailable):
            await provider.complete(call_of())
        assert len(upstream.requests) == 2
        assert "acme-1" in provider.paused()
        assert "acme-2" not in provider.paused()
        with pytest.raises(ProviderUnavailable, match="paused"):
            await consumed(provider)
    assert len(upstream.requests) == 2


async def test_a_silent_upstream_times_out(http: HttpClient) -> None:
    upstream = ScriptedUpstream(Answer(stalls_at_once=True))
    async with serve(upstream) as url:
        for answering in (
            consumed(provider_at(url, http, first_byte_timeout_s=PATIENCE_S)),
            provider_at(url, http, deadline_s=PATIENCE_S).complete(call_of()),
        ):
            asking = asyncio.ensure_future(answering)
            await upstream.next_request()
            skip_ahead(PATIENCE_S)
            with pytest.raises(ProviderTimeout):
                await asking
    assert len(upstream.requests) == 2


async def test_a_json_answer_may_take_longer_than_a_first_byte(http: HttpClient) -> None:
    slow = Answer((b'{"choices": [],', b'"id": "x"}'), headers={}, pause_s=0.05)
    async with serve(ScriptedUpstream(slow)) as url:
        answer = await provider_at(url, http, first_byte_timeout_s=0.01).complete(call_of())
    assert answer.body["id"] == "x"
    assert answer.finish_reason is None


async def test_an_answer_whose_body_stalls_times_out(http: HttpClient) -> None:
    half = Answer((b'{"id":',), stalls=True, headers={"content-type": "application/json"})
    async with serve(ScriptedUpstream(half)) as url:
        with pytest.raises(ProviderTimeout):
            await provider_at(url, http, deadline_s=0.1).complete(call_of())


async def test_starts_nothing_after_the_callers_deadline(http: HttpClient) -> None:
    upstream = ScriptedUpstream(json_answer(completion()))
    async with serve(upstream) as url:
        with pytest.raises(ProviderTimeout):
            await provider_at(url, http).complete(call_of(deadline_s=99.0))
    assert upstream.requests == []


async def test_a_stream_that_falls_silent_times_out_after_what_came(http: HttpClient) -> None:
    upstream = ScriptedUpstream(Answer((chunk({"content": "a"}),), stalls=True))
    async with serve(upstream) as url:
        provider = provider_at(url, http, idle_timeout_s=0.05, breaker_failures=1)
        received: list[bytes] = []
        async with provider.stream(call_of()) as stream:
            with pytest.raises(ProviderTimeout):
                await collect(stream, received)
        assert "acme-1" in provider.paused()
    assert received == [chunk({"content": "a"})]


async def test_silence_after_the_reason_to_finish_is_the_end_of_the_answer(
    http: HttpClient,
) -> None:
    upstream = ScriptedUpstream(Answer(tuple(stream_chunks("a")[:-2]), stalls=True))
    async with serve(upstream) as url:
        provider = provider_at(url, http, idle_timeout_s=0.05, breaker_failures=1)
        async with provider.stream(call_of()) as stream:
            await collect(stream, [])
            assert (stream.is_complete, stream.finish_reason, stream.usage) == (True, "stop", None)
        assert provider.paused() == []


async def test_half_a_character_that_a_caller_asked_for_is_no_fault_of_the_model(http) -> None:
    body = orjson.dumps(completion("TEXT")).replace(b"TEXT", b"a\\ud83d \\ud83d\\ude00")
    async with serve(ScriptedUpstream(Answer((body,)))) as url:
        completed = await provider_at(url, http).complete(call_of())
    assert completed.body["choices"][0]["message"]["content"] == "a? \U0001f600"


async def test_comments_do_not_begin_a_stream_but_keep_it_alive(http: HttpClient) -> None:
    pings = (b": ping\n\n", b": ping\n\n", *stream_chunks("a"))
    upstream = ScriptedUpstream(Answer(pings, pause_s=0.03))
    async with serve(upstream) as url:
        forwarded = await consumed(provider_at(url, http, first_byte_timeout_s=PATIENCE_S))
    assert forwarded.startswith(b": ping\n\n: ping\n\ndata: ")


async def test_an_error_before_the_first_event_is_tried_again(http: HttpClient) -> None:
    bad = Answer((b": ping\n\n", event({"error": {"message": "overloaded", "code": 529}})))
    upstream = ScriptedUpstream(bad, stream_answer())
    async with serve(upstream) as url:
        forwarded = await consumed(provider_at(url, http))
    assert forwarded == b"".join(stream_chunks()[:-2])


async def test_a_stream_that_ends_before_its_first_event_may_be_tried_again(http) -> None:
    async with serve(ScriptedUpstream(Answer((), cuts_off=True), Answer(()))) as url:
        for _ in range(2):
            with pytest.raises((ProviderUnavailable, ProviderCutOff)) as broken:
                await consumed(provider_at(url, http))
            assert broken.value.attempts == 1


async def test_an_empty_answer_forwards_nothing(http: HttpClient) -> None:
    nothing = Answer((usage_chunk(), b"data: [DONE]\n\n"))
    async with serve(ScriptedUpstream(nothing)) as url:
        assert await consumed(provider_at(url, http)) == b""


async def test_a_stream_without_done_is_a_success(http: HttpClient) -> None:
    upstream = ScriptedUpstream(error_answer(500, "x"), Answer((chunk({}, "stop"),)))
    async with serve(upstream) as url:
        provider = provider_at(url, http, breaker_failures=2)
        for _ in range(2):
            assert await consumed(provider) == chunk({}, "stop")
            upstream.answers.insert(0, error_answer(500, "x"))
        assert "acme-1" not in provider.paused()


async def test_does_not_try_again_once_the_answer_has_begun(http: HttpClient) -> None:
    upstream = ScriptedUpstream(
        Answer((chunk({"content": "a"}), event({"error": {"message": "boom"}}))), stream_answer()
    )
    async with serve(upstream) as url:
        with pytest.raises(ProviderUnavailable):
            await consumed(provider_at(url, http))
    assert len(upstream.requests) == 1


async def test_an_error_right_behind_the_first_event_comes_after_it(http: HttpClient) -> None:
    both = chunk({"content": "a"}) + event({"error": {"message": "at sk-secret", "code": 400}})
    async with serve(ScriptedUpstream(Answer((both,)))) as url:
        received: list[bytes] = []
        async with provider_at(url, http).stream(call_of()) as stream:
            with pytest.raises(ProviderRejected) as caught:
                await collect(stream, received)
    assert received == [chunk({"content": "a"})]
    assert caught.value.body == {"message": "at [redacted]", "code": 400}


async def test_streams_that_are_cut_off_open_the_breaker(http: HttpClient) -> None:
    upstream = ScriptedUpstream(Answer((chunk({"content": "a"}),), cuts_off=True))
    async with serve(upstream) as url:
        provider = provider_at(url, http, breaker_failures=2)
        for _ in range(2):
            with pytest.raises(ProviderCutOff):
                await consumed(provider)
        assert "acme-1" in provider.paused()


async def test_callers_who_leave_do_not_open_the_breaker(http: HttpClient) -> None:
    upstream = ScriptedUpstream(Answer((chunk({"content": "a"}),), stalls=True))
    async with serve(upstream) as url:
        provider = provider_at(url, http, breaker_failures=1)
        async with provider.stream(call_of()) as stream:
            await anext(aiter(stream))
        assert "acme-1" not in provider.paused()


async def test_refuses_more_calls_at_once_than_allowed(http: HttpClient) -> None:
    upstream = ScriptedUpstream(Answer((chunk({"content": "a"}),), stalls=True))
    async with serve(upstream) as url:
        provider = provider_at(url, http, max_concurrency=1, queue_timeout_s=PATIENCE_S)
        async with provider.stream(call_of()) as stream:
            await anext(aiter(stream))
            second = asyncio.create_task(provider.complete(call_of()))
            await asyncio.sleep(0)
            skip_ahead(PATIENCE_S)
            with pytest.raises(ProviderUnavailable):
                await second
        upstream.answers = [json_answer(completion())]
        await provider.complete(call_of())


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"{}", b'{"choices": 7}', b'{"choices": ["x"]}', b"null"]
)
async def test_an_answer_that_is_no_completion_is_the_providers_failure(
    http: HttpClient, body: bytes
) -> None:
    upstream = ScriptedUpstream(Answer((body,), headers={}))
    async with serve(upstream) as url:
        with pytest.raises(ProviderUnavailable):
            await provider_at(url, http).complete(call_of())
    assert len(upstream.requests) == 1


async def test_an_error_in_an_answer_of_status_200_is_an_error(http: HttpClient) -> None:
    upstream = ScriptedUpstream(
        json_answer({"error": {"message": "overloaded", "code": 503}}), json_answer(completion())
    )
    async with serve(upstream) as url:
        answer = await provider_at(url, http).complete(call_of())
    assert answer.attempts == 2


async def test_half_an_answer_is_cut_off(http: HttpClient) -> None:
    upstream = ScriptedUpstream(Answer((b'{"id":',), announced_length=100, cuts_off=True))
    async with serve(upstream) as url:
        with pytest.raises(ProviderCutOff, match="half"):
            await provider_at(url, http).complete(call_of())
    assert len(upstream.requests) == 1


async def test_too_long_an_answer_is_cut_off(http: HttpClient, monkeypatch) -> None:
    monkeypatch.setattr(upstream_module, "MAX_BODY_BYTES", 10)
    monkeypatch.setattr(upstream_module, "MAX_EVENT_BYTES", 10)
    pings = Answer((b": ping\n\n" * 2,), stalls=True)
    async with serve(ScriptedUpstream(json_answer(completion()), pings)) as url:
        with pytest.raises(ProviderCutOff, match="too long"):
            await provider_at(url, http).complete(call_of())
        with pytest.raises(ProviderCutOff, match="longer than"):
            await consumed(provider_at(url, http, max_retries=0))


async def test_an_error_whose_body_breaks_off_is_still_an_error(http: HttpClient) -> None:
    broken = Answer((b'{"err',), status=422, announced_length=100, cuts_off=True)
    async with serve(ScriptedUpstream(broken)) as url:
        with pytest.raises(ProviderRejected) as caught:
            await provider_at(url, http).complete(call_of())
    assert caught.value.status == 422


async def test_does_not_follow_a_redirect(http: HttpClient) -> None:
    upstream = ScriptedUpstream(Answer((), status=307, headers={"location": "http://other/"}))
    async with serve(upstream) as url:
        with pytest.raises(ProviderMisconfigured):
            await provider_at(url, http).complete(call_of())
    assert len(upstream.requests) == 1


async def test_a_connection_whose_stream_never_ends_is_given_up(http: HttpClient) -> None:
    upstream = ScriptedUpstream(Answer(tuple(stream_chunks()), stalls=True))
    async with serve(upstream) as url:
        await consumed(provider_at(url, http))
        async with asyncio.timeout(PATIENCE_S):
            await upstream.last.has_disconnected.wait()


async def test_closing_a_provider_leaves_the_shared_connections(http: HttpClient) -> None:
    async with serve(ScriptedUpstream(json_answer(completion()))) as url:
        first, second = provider_at(url, http), provider_at(url, http)
        await first.aclose()
        await second.complete(call_of())


async def test_callers_who_leave_at_any_time_leave_nothing_behind(http: HttpClient) -> None:
    """Cancel streams after 0, 1, 2, ... steps of the event loop; all must end in a free slot."""
    slow = Answer((b": wait\n\n", *stream_chunks("abc")), pause_s=0.001)
    async with serve(ScriptedUpstream(slow)) as url:
        provider = provider_at(url, http, max_concurrency=1)
        for steps in range(0, 120, 3):
            leaving = asyncio.create_task(consumed(provider))
            for _ in range(steps):
                await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        assert (await consumed(provider)).endswith(chunk({}, "stop"))
        n_open, n_idle = http.connections
        assert n_open == n_idle
