"""Ways to pay less than it costs, or to have it cost others more, beside chat."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from budget.ledger.types import Limit, Scope
from gateway.types import CLIENT_LEFT
from tests.fakes.endpoints import (
    EMBEDDER,
    FORM,
    RERANKER,
    WRITER,
    cap,
    form,
    gateway_of_endpoints,
    journal,
    text_field,
    vectors,
    written,
)
from tests.fakes.gateway import RunningGateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.upstream import Answer, error_answer, event, json_answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

EMBEDDINGS = "/v1/embeddings"
IMAGES = "/v1/images/generations"


@pytest_asyncio.fixture(loop_scope="session")
async def capped(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with gateway_of_endpoints(tmp_path) as gateway:
        yield gateway


async def spent(gateway: RunningGateway) -> int:
    limit = Limit(Scope("default", "team"), "nusd", "total", 1)
    return (await gateway.app.budgets.ledger.standing(limit)).spent


async def test_fifty_calls_at_once_never_pass_a_cap(capped) -> None:
    capped.alpha.answers = [vectors(tokens=100)]
    await cap(capped, 50_000)
    body = {"model": EMBEDDER, "input": "x" * 100}
    async with capped.caller() as http:
        answers = await asyncio.gather(*(http.post(EMBEDDINGS, json=body) for _ in range(50)))
        while (await http.post(EMBEDDINGS, json=body)).status_code == 200:
            assert await spent(capped) <= 50_000
    n_served = len(capped.alpha.requests)
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert await spent(capped) == n_served * 100 * 20
    assert 0.9 * 50_000 < await spent(capped) <= 50_000
    rows = await journal(capped, n_served)
    assert sum(row.charged_nusd for row in rows) == await spent(capped)


async def test_fifty_images_at_once_never_pass_a_cap(capped) -> None:
    capped.alpha.answers = [json_answer({"data": []})]
    await cap(capped, 10 * 40_000_000)
    async with capped.caller() as http:
        calls = (http.post(IMAGES, json={"prompt": "x"}) for _ in range(50))
        answers = await asyncio.gather(*calls)
    statuses = [answer.status_code for answer in answers]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert (statuses.count(200), len(capped.alpha.requests)) == (10, 10)
    assert refused.json()["error"]["code"] == "insufficient_quota"
    assert await spent(capped) == 10 * 40_000_000


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 2**60, "total_tokens": 2**60},
        {"prompt_tokens": 5, "completion_tokens": 2**40},
        {"prompt_tokens": -1, "total_tokens": "many"},
        None,
    ],
)
async def test_no_claim_of_a_provider_is_charged_beyond_what_was_held(capped, usage) -> None:
    capped.alpha.answers = [json_answer({"data": [], "usage": usage})]
    await cap(capped, 10**9)
    async with capped.caller() as http:
        answer = await http.post(EMBEDDINGS, json={"model": EMBEDDER, "input": "x" * 50})
    assert answer.status_code == 200
    (row,) = await journal(capped, 1)
    assert 0 < row.charged_nusd <= row.held_nusd
    assert row.charged_tokens <= row.held_tokens
    assert await spent(capped) == row.charged_nusd


@pytest.mark.parametrize("seconds", [10**9, float(600), "1", None, -5, True])
async def test_what_an_answer_does_not_tell_rightly_costs_the_most(capped, seconds) -> None:
    capped.alpha.answers = [json_answer({"text": "x", "usage": {"seconds": seconds}})]
    async with capped.caller() as http:
        body = form(text_field("model", "whisper-1"))
        answer = await http.post("/v1/audio/transcriptions", content=body, headers=FORM)
    assert answer.headers["x-waypost-cost-usd"] == "0.060000000"


async def test_documents_cannot_fake_what_a_rank_costs(capped) -> None:
    results = [{"index": 0, "document": {"usage": {"prompt_tokens": 1}, "meta": {}}}]
    capped.alpha.answers = [json_answer({"results": results})]
    async with capped.caller() as http:
        body = {"model": RERANKER, "query": "q", "documents": ["x" * 600] * 150}
        answer = await http.post("/v1/rerank", json=body)
    assert float(answer.headers["x-waypost-cost-usd"]) >= 2 * 0.002


async def test_prompts_and_copies_multiply_what_is_held(capped) -> None:
    await cap(capped, 10**9)
    capped.alpha.answers = [json_answer(written("x"))]
    body = {"model": WRITER, "prompt": ["a", "b", "c"], "n": 2, "best_of": 5, "max_tokens": 100}
    async with capped.caller() as http:
        await http.post("/v1/completions", json=body)
    (row,) = await journal(capped, 1)
    assert row.charged_output_tokens == 3 * 5 * 100


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (EMBEDDINGS, {"model": EMBEDDER, "input": "x"}),
        (IMAGES, {"prompt": "x"}),
        ("/v1/completions", {"model": WRITER, "prompt": "x"}),
    ],
)
async def test_who_leaves_before_the_answer_is_charged(tmp_path, path, body) -> None:
    patience = {"abandoned_json_s": 0.01, "port": 0, "admin_port": 0}
    async with gateway_of_endpoints(tmp_path, server=patience) as gateway:
        await cap(gateway, 10**9)
        gateway.alpha.answers = [Answer(stalls_at_once=True)]
        async with gateway.caller() as http:
            asking = asyncio.create_task(http.post(path, json=body))
            received = await gateway.alpha.next_request()
            asking.cancel()
            await asyncio.wait_for(received.has_disconnected.wait(), PATIENCE_S)
        (row,) = await journal(gateway, 1)
        assert (row.outcome, row.charged_nusd) == (CLIENT_LEFT, row.held_nusd)
        assert row.charged_nusd > 0
        assert await spent(gateway) == row.charged_nusd


async def test_who_leaves_a_streamed_text_is_charged_what_was_forwarded(capped) -> None:
    await cap(capped, 10**9)
    words = tuple(event(written(f"word{n} ", None)) for n in range(50))
    capped.alpha.answers = [Answer(words, stalls=True)]
    body = {"model": WRITER, "prompt": "x", "stream": True, "max_tokens": 1000}
    async with capped.caller() as http, http.stream("POST", "/v1/completions", json=body) as answer:
        received = b""
        async for data in answer.aiter_raw():
            received += data
            if b"word49" in received:
                break
    (row,) = await journal(capped, 1)
    assert 50 <= row.charged_output_tokens < 1000
    assert row.is_estimated
    assert row.outcome == CLIENT_LEFT


async def test_a_call_that_broke_after_it_was_sent_is_charged_and_not_repeated(tmp_path) -> None:
    async with gateway_of_endpoints(tmp_path, limits={"max_retries": 2}) as gateway:
        headers = {"content-type": "application/json"}
        gateway.alpha.answers = [Answer((b"{",), headers=headers, cuts_off=True)]
        async with gateway.caller() as http:
            answer = await http.post(IMAGES, json={"prompt": "x"})
        (row,) = await journal(gateway, 1)
    assert answer.json()["error"]["code"] == "provider_cut_off"
    assert (row.charged_nusd, len(gateway.alpha.requests)) == (40_000_000, 1)


async def test_half_a_recording_is_charged_and_does_not_pass_for_a_whole_one(capped) -> None:
    headers = {"content-type": "audio/mpeg"}
    capped.alpha.answers = [Answer((b"half",), headers=headers, cuts_off=True)]
    async with capped.caller() as http:
        with pytest.raises(httpx2.RemoteProtocolError):
            await http.post("/v1/audio/speech", json={"input": "Hi"})
    (row,) = await journal(capped, 1)
    assert (row.outcome, row.charged_nusd > 0) == ("ProviderCutOff", True)


async def test_what_failed_before_it_cost_anything_is_repeated(tmp_path) -> None:
    async with gateway_of_endpoints(tmp_path, limits={"max_retries": 2}) as gateway:
        gateway.alpha.answers = [error_answer(503, "busy"), vectors()]
        async with gateway.caller() as http:
            answer = await http.post(EMBEDDINGS, json={"model": EMBEDDER, "input": "x"})
        assert (answer.status_code, len(gateway.alpha.requests)) == (200, 2)


async def test_failures_of_an_endpoint_pause_it_and_no_chat(tmp_path) -> None:
    async with gateway_of_endpoints(tmp_path, limits={"breaker_failures": 1}) as gateway:
        gateway.alpha.answers = [error_answer(500, "down")]
        async with gateway.caller() as http:
            for _ in range(3):
                await http.post(IMAGES, json={"prompt": "x"})
            n_calls = len(gateway.alpha.requests)
            gateway.alpha.answers = [vectors()]
            other = await http.post(EMBEDDINGS, json={"model": EMBEDDER, "input": "x"})
    assert (n_calls, other.status_code) == (1, 200)


async def test_forms_under_way_are_limited_as_other_bodies_are(tmp_path) -> None:
    limits = {"max_body_bytes": 100_000, "body_memory_bytes_per_key": 1, "body_memory_bytes": 1}
    async with gateway_of_endpoints(tmp_path, server={**limits, "port": 0}) as gateway:
        gateway.alpha.answers = [Answer(stalls_at_once=True)]
        body = form(text_field("model", "gpt-image-1"), file=b"x" * 90_000)
        async with gateway.caller() as http:
            first = asyncio.create_task(http.post("/v1/images/edits", content=body, headers=FORM))
            await gateway.alpha.next_request()
            second = await http.post("/v1/images/edits", content=body, headers=FORM)
            first.cancel()
    assert (second.status_code, len(gateway.alpha.requests)) == (429, 1)


@pytest.mark.parametrize("scope", ["turn", "user"])
async def test_limits_of_single_calls_and_of_end_users_hold(capped, scope) -> None:
    await cap(capped, 2_000, scope=scope)
    body = {"model": EMBEDDER, "input": "x" * 1000, "user": "someone"}
    async with capped.caller() as http:
        answer = await http.post(EMBEDDINGS, json=body)
    assert (answer.status_code, answer.json()["error"]["limit_source"]) == (429, scope)
    assert capped.alpha.requests == []


async def test_who_reads_slowly_pauses_no_endpoint_and_who_stalls_does(tmp_path) -> None:
    once = {"breaker_failures": 1, "idle_timeout_s": PATIENCE_S}
    patience = {"stream_deadline_s": 0.05, "port": 0, "admin_port": 0}
    sound = Answer((b"x",), headers={"content-type": "audio/mpeg"}, stalls=True)
    cut = Answer((b"x",), headers={"content-type": "audio/mpeg"}, cuts_off=True)
    async with gateway_of_endpoints(tmp_path, limits=once, server=patience) as gateway:
        gateway.alpha.answers = [sound, sound, cut]
        async with gateway.caller() as http:
            for _ in range(3):
                with pytest.raises(httpx2.RemoteProtocolError):
                    await http.post("/v1/audio/speech", json={"input": "Hi"})
            paused = await http.post("/v1/audio/speech", json={"input": "Hi"})
    assert (paused.status_code, len(gateway.alpha.requests)) == (503, 3)
