"""OpenAI's own SDK and plain HTTP ask models for vectors, texts and ranks."""

import struct
from base64 import b64encode
from collections.abc import AsyncIterator

import httpx2
import openai
import orjson
import pytest

from gateway.forwarding.service import ForwardService
from tests.fakes.endpoints import (
    EMBEDDER,
    RERANKER,
    WRITER,
    gateway_of_endpoints,
    row_of,
    vectors,
    written,
)
from tests.fakes.gateway import ALPHA_KEY, CLAUDE, SMALL
from tests.fakes.scrape import scrape
from tests.fakes.server import free_port
from tests.fakes.upstream import Answer, error_answer, event, json_answer

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_vectors_come_as_numbers_that_the_sdk_asks_for_in_base64(gateway, sdk) -> None:
    packed = b64encode(struct.pack("<2f", 0.25, -0.5)).decode()
    gateway.alpha.answers = [vectors(2, embedding=packed)]

    answer = await sdk.embeddings.create(model=EMBEDDER, input=["one", "two"], dimensions=2)

    assert [item.embedding for item in answer.data] == [[0.25, -0.5]] * 2
    assert answer.usage.prompt_tokens == 5
    sent = gateway.alpha.last
    assert sent.path == "/alpha/v1/embeddings"
    assert sent.headers["authorization"] == f"Bearer {ALPHA_KEY}"
    assert sent.body == {
        "model": EMBEDDER,
        "input": ["one", "two"],
        "dimensions": 2,
        "encoding_format": "base64",
    }


async def test_vectors_come_as_floats_and_tokens_are_taken(gateway, sdk) -> None:
    gateway.alpha.answers = [vectors()]

    answer = await sdk.embeddings.create(model=EMBEDDER, input=[[1, 2, 3]], encoding_format="float")

    assert answer.data[0].embedding == [0.25, -0.5]
    assert gateway.alpha.last.body["input"] == [[1, 2, 3]]


async def test_an_answer_passes_byte_for_byte(gateway, http) -> None:
    raw = b'{ "data": [{"embedding": [1e-7, 0.10000000000000001]}],"usage":{"prompt_tokens":3} }'
    gateway.alpha.answers = [Answer((raw,), headers={"content-type": "application/json"})]

    answer = await http.post("/v1/embeddings", json={"model": EMBEDDER, "input": "x"})

    assert answer.content == raw
    assert answer.headers["x-waypost-model"] == EMBEDDER


async def test_each_call_is_charged_to_the_nano_usd_though_nothing_limits_it(gateway, http) -> None:
    gateway.alpha.answers = [vectors(tokens=7)]

    answer = await http.post("/v1/embeddings", json={"model": EMBEDDER, "input": "seven tokens"})

    row = await row_of(gateway, answer)
    assert (row.model, row.charged_nusd, row.charged_tokens) == (EMBEDDER, 140, 7)
    assert (row.outcome, row.is_estimated, row.limits) == ("answered", False, " ")
    assert answer.headers["x-waypost-cost-usd"] == "0.000000140"


async def test_auto_stands_for_the_only_embedding_model(gateway, http) -> None:
    gateway.alpha.answers = [vectors()]

    answer = await http.post("/v1/embeddings", json={"model": "auto", "input": "x"})

    assert answer.status_code == 200
    assert gateway.alpha.last.body["model"] == EMBEDDER


async def test_a_chat_model_makes_no_vectors_and_an_embedding_model_no_chat(gateway, http) -> None:
    wrong = await http.post("/v1/embeddings", json={"model": SMALL, "input": "x"})
    chat = {"model": EMBEDDER, "messages": [{"role": "user", "content": "Hi"}]}
    other = await http.post("/v1/chat/completions", json=chat)

    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "model")
    assert "model for chat" in wrong.json()["error"]["message"]
    assert (other.status_code, other.json()["error"]["code"]) == (404, "model_not_found")


async def test_no_chat_is_routed_to_a_model_of_another_kind(gateway, http) -> None:
    chat = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
    plan = (await http.post("/v1/route", json=chat)).json()

    considered = {candidate["model"] for candidate in plan["candidates"]}
    assert considered == {SMALL, "large", CLAUDE}


async def test_models_are_listed_with_what_they_are_for(gateway, http) -> None:
    listed = {model["id"]: model for model in (await http.get("/v1/models")).json()["data"]}
    version = {"anthropic-version": "2023-06-01"}
    of_messages = (await http.get("/v1/models", headers=version)).json()["data"]

    assert listed[EMBEDDER]["waypost"]["kind"] == "embeddings"
    assert listed[RERANKER]["waypost"]["kind"] == "rerank"
    assert "kind" not in listed[SMALL]["waypost"]
    assert EMBEDDER not in {model["id"] for model in of_messages}
    assert (await http.get(f"/v1/models/{EMBEDDER}")).json()["owned_by"] == "alpha"


async def test_a_text_is_completed(gateway, sdk) -> None:
    usage = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
    gateway.alpha.answers = [json_answer(written(" there", usage=usage))]

    answer = await sdk.completions.create(model=WRITER, prompt="Hello", max_tokens=9)

    assert answer.choices[0].text == " there"
    assert gateway.alpha.last.path == "/alpha/v1/completions"
    assert gateway.alpha.last.body == {"model": WRITER, "prompt": "Hello", "max_tokens": 9}


async def test_a_text_without_a_limit_gets_the_one_that_openai_gives(gateway, http) -> None:
    gateway.alpha.answers = [json_answer(written("x"))]
    await http.post("/v1/completions", json={"model": WRITER, "prompt": ["a", "b"]})
    assert gateway.alpha.last.body["max_tokens"] == 16


@pytest.mark.parametrize("asks", [True, False])
async def test_a_streamed_text_has_usage_once_where_it_is_asked_for(gateway, sdk, asks) -> None:
    usage = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
    chunks = [event(written(word, None)) for word in ("Hel", "lo")]
    last = event(written("", "stop"))
    counted = event({**written("", usage=usage), "choices": []})
    gateway.alpha.answers = [Answer((*chunks, last, counted, b"data: [DONE]\n\n"))]

    options = {"stream_options": {"include_usage": True}} if asks else {}
    stream = await sdk.completions.create(model=WRITER, prompt="Say", stream=True, **options)
    seen = [part async for part in stream]

    assert "".join(part.choices[0].text for part in seen if part.choices) == "Hello"
    assert [part.usage.total_tokens for part in seen if part.usage] == ([6] if asks else [])
    assert gateway.alpha.last.body["stream_options"] == {"include_usage": True}


async def test_a_whole_text_in_place_of_a_stream_becomes_one(gateway, sdk) -> None:
    gateway.alpha.answers = [json_answer(written("Hello"))]
    stream = await sdk.completions.create(model=WRITER, prompt="Say", stream=True)
    assert "".join([part.choices[0].text async for part in stream]) == "Hello"


async def test_a_stream_that_breaks_ends_with_an_error_and_is_charged(gateway, http) -> None:
    gateway.alpha.answers = [Answer((event(written("Hel", None)),), cuts_off=True)]
    body = {"model": WRITER, "prompt": "Say", "stream": True, "max_tokens": 50}

    answer = await http.post("/v1/completions", json=body)

    events = [line for line in answer.text.split("\n\n") if line]
    assert orjson.loads(events[-1].removeprefix("data: "))["error"]["code"] == "provider_cut_off"
    row = await row_of(gateway, answer)
    assert row.outcome == "ProviderCutOff"
    assert 0 < row.charged_output_tokens < 50
    assert row.is_estimated


async def test_documents_are_ranked_and_paid_for_by_search_units(gateway, http) -> None:
    results = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]
    meta = {"billed_units": {"search_units": 1}}
    gateway.alpha.answers = [json_answer({"id": "r", "results": results, "meta": meta})]
    body = {"model": RERANKER, "query": "what", "documents": ["a", {"text": "b"}], "top_n": 2}

    answer = await http.post("/v1/rerank", json=body)

    assert answer.json()["results"] == results
    assert gateway.alpha.last.path == "/alpha/v1/rerank"
    assert (await row_of(gateway, answer)).charged_nusd == 2_000_000


async def test_a_refusal_of_the_provider_is_passed_on_without_its_key(gateway, sdk) -> None:
    told = f"bad input for {ALPHA_KEY}"
    gateway.alpha.answers = [error_answer(400, told, param="input", code="bad")]
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.embeddings.create(model=EMBEDDER, input="x")
    assert "bad input" in str(caught.value)
    assert ALPHA_KEY not in str(caught.value)


async def test_what_a_provider_fails_at_costs_nothing(gateway, http) -> None:
    gateway.alpha.answers = [error_answer(500, "down")]
    answer = await http.post("/v1/embeddings", json={"model": EMBEDDER, "input": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "provider_unavailable")
    row = await row_of(gateway, answer)
    assert (row.charged_nusd, row.outcome) == (0, "ProviderUnavailable")


@pytest.mark.parametrize("raw", [b"<html>", b"[]", b'"x"'])
async def test_an_answer_that_is_no_object_is_the_providers_fault(gateway, http, raw) -> None:
    gateway.alpha.answers = [Answer((raw,), headers={"content-type": "text/html"})]
    answer = await http.post("/v1/embeddings", json={"model": EMBEDDER, "input": "x"})
    assert answer.json()["error"]["code"] == "provider_unavailable"


async def test_an_error_of_status_200_is_one(gateway, http) -> None:
    gateway.alpha.answers = [json_answer({"error": {"message": "no", "code": 429}})]
    answer = await http.post("/v1/embeddings", json={"model": EMBEDDER, "input": "x"})
    assert answer.status_code == 429


async def test_calls_are_counted_by_what_they_ask(gateway, http) -> None:
    gateway.alpha.answers = [vectors(tokens=7)]
    labels = {"gen_ai_operation_name": "embeddings", "gen_ai_request_model": EMBEDDER}
    tokens = {**labels, "gen_ai_token_type": "input"}
    before = await scrape(gateway)
    await http.post("/v1/embeddings", json={"model": EMBEDDER, "input": "x"})
    after = await scrape(gateway)

    def grown(name: str, **labels: str) -> float:
        return after.sum(name, **labels) - before.sum(name, **labels)

    assert grown("gen_ai_client_operation_duration_seconds_count", **labels) == 1
    assert grown("gen_ai_client_token_usage_sum", **tokens) == 7
    assert grown("waypost_cost_usd_total", model=EMBEDDER) == pytest.approx(140e-9)
    assert grown("waypost_requests_total", endpoint="embeddings", status="200") == 1


async def test_a_bug_of_our_own_is_an_internal_error(gateway, http, monkeypatch) -> None:
    monkeypatch.setattr(ForwardService, "_sent", lambda *_: 1 / 0)
    answer = await http.post("/v1/embeddings", json={"model": EMBEDDER, "input": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert gateway.app.budgets.ledger.running == 0


@pytest.mark.parametrize("stream", [1, "yes", []])
async def test_stream_is_true_or_false(gateway, http, stream) -> None:
    body = {"model": WRITER, "prompt": "x", "stream": stream}
    answer = await http.post("/v1/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "stream")


async def test_a_profile_stands_for_its_only_embedding_model(gateway, http) -> None:
    gateway.alpha.answers = [vectors()]
    answer = await http.post("/v1/embeddings", json={"model": "balanced", "input": "x"})
    assert answer.headers["x-waypost-model"] == EMBEDDER


async def test_an_operator_may_admit_every_field(tmp_path) -> None:
    async with gateway_of_endpoints(tmp_path, limits={"extra_fields": ["*"]}) as running:
        running.alpha.answers = [vectors()]
        async with running.caller() as http:
            body = {"model": EMBEDDER, "input": "x", "anything": 1}
            assert (await http.post("/v1/embeddings", json=body)).status_code == 200
        assert running.alpha.last.body["anything"] == 1


async def test_a_provider_that_cannot_be_reached_is_unavailable(tmp_path) -> None:
    nowhere = {"alpha": {"base_url": f"http://127.0.0.1:{free_port()}/v1"}}
    async with gateway_of_endpoints(tmp_path, also=nowhere) as running, running.caller() as http:
        answer = await http.post("/v1/embeddings", json={"model": EMBEDDER, "input": "x"})
    assert answer.json()["error"]["code"] == "provider_unavailable"


async def test_a_chat_model_of_anthropic_completes_no_text(gateway, http) -> None:
    answer = await http.post("/v1/completions", json={"model": CLAUDE, "prompt": "x"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


async def test_a_bug_of_our_own_amid_a_stream_lets_no_half_answer_pass(
    gateway, http, monkeypatch
) -> None:
    gateway.alpha.answers = [Answer((event(written("Hel", None)),), stalls=True)]
    monkeypatch.setattr(ForwardService, "_events", broken_off)
    with pytest.raises(httpx2.RemoteProtocolError):
        await http.post("/v1/completions", json={"model": WRITER, "prompt": "x", "stream": True})
    assert gateway.app.budgets.ledger.running == 0


async def broken_off(*_: object) -> AsyncIterator[bytes]:
    yield b"data: {}\n\n"
    raise RuntimeError
