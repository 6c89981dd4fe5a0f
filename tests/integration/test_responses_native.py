"""OpenAI's Responses to upstreams that speak it: as they were sent, and back as they came."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from gateway.types import CLIENT_LEFT
from tests.fakes.gateway import PRICE, SMALL, RunningGateway, SteppedUpstream, running_gateway
from tests.fakes.patience import PATIENCE_S
from tests.fakes.responses import AGENT, HELLO, events_of, named, response, response_chunks
from tests.fakes.upstream import Answer, completion, error_answer, json_answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

RESPONSES = "/v1/responses"
STREAM = HELLO | {"stream": True, "model": SMALL}
NATIVE = {"alpha": {"responses": True}}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    """A gateway whose provider ``alpha`` speaks Responses; its models reason."""
    model = {"provider": "alpha", "upstream_name": "gpt-5-up", "price": PRICE}
    plain = model | {"upstream_name": "gpt-4o-up", "request_defaults": {"temperature": 0.5}}
    models: dict[str, Any] = {SMALL: model, "plain": plain}
    models["own"] = model | {
        "system_prompt": "Be kind.",
        "request_defaults": {"max_tokens": 77, "verbosity": "low", "reasoning_effort": "low"},
    }
    async with running_gateway(
        tmp_path_factory.mktemp("native"), also=NATIVE, models=models, profiles={}
    ) as running:
        yield running


@pytest.fixture
def native(shared: RunningGateway) -> RunningGateway:
    """The gateway with an upstream that greets."""
    shared.upstreams.reset()
    shared.alpha.answers = [json_answer(response())]
    return shared


@pytest_asyncio.fixture(loop_scope="session")
async def http(native: RunningGateway) -> AsyncIterator[Any]:
    async with native.caller() as client:
        yield client


async def test_a_request_reaches_the_host_as_it_was_sent(native, http):
    answer = await http.post(RESPONSES, json=AGENT | {"model": SMALL})

    assert answer.status_code == 200, answer.text
    assert native.alpha.last.path == "/alpha/v1/responses"
    # But for a thought that is only named: with `store: false` the host cannot find it.
    items = [item for item in AGENT["input"] if item.get("id") != "rs_1"]
    assert native.alpha.last.body == AGENT | {"model": "gpt-5-up", "input": items}


async def test_an_answer_passes_as_it_is_and_is_charged(native, http):
    answer = await http.post(RESPONSES, json=HELLO | {"model": SMALL})

    body = answer.json()
    assert body.pop("waypost")["model"] == SMALL
    assert body == response()
    row = await native.turn(answer.headers["x-request-id"])
    assert (row.prompt_tokens, row.cached_tokens, row.completion_tokens) == (9, 4, 3)
    assert (row.reasoning_tokens, row.answer_id, row.finish_reason) == (1, "0a", "stop")


async def test_a_stream_passes_byte_for_byte(native, http):
    chunks = response_chunks()
    native.alpha.answers = [Answer((*chunks, b"data: [DONE]\n\n"))]

    answer = await http.post(RESPONSES, json=STREAM)

    passed = b"".join(chunks[:-1])
    assert answer.content.startswith(passed)
    events = events_of(answer.content)
    last = events[-1]
    assert last["type"] == "response.completed"
    assert last["response"].pop("waypost")["cost_usd"] > 0
    assert last["response"] == response()
    assert native.alpha.last.body["stream"] is True
    row = await native.turn(answer.headers["x-request-id"])
    assert (row.prompt_tokens, row.completion_tokens, row.answer_id) == (9, 3, "0a")


async def test_an_incomplete_stream_is_a_whole_one(native, http):
    native.alpha.answers = [Answer(tuple(response_chunks(ending="incomplete")))]

    answer = await http.post(RESPONSES, json=STREAM)

    assert events_of(answer.content)[-1]["type"] == "response.incomplete"
    row = await native.turn(answer.headers["x-request-id"])
    assert (row.finish_reason, row.error) == ("length", None)


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ([], "provider_cut_off"),
        (
            [{"type": "response.failed", "response": {"error": {"code": "server_error"}}}],
            "provider_unavailable",
        ),
        ([{"type": "error", "code": "server_error", "message": "x"}], "provider_unavailable"),
        ([{"type": "error", "error": {"type": "invalid_request_error"}}], "provider_rejected"),
    ],
)
async def test_a_stream_that_breaks_ends_in_an_error_and_is_charged(native, http, ending, code):
    chunks = [*response_chunks()[:5], *map(named, ending)]
    native.alpha.answers = [Answer(tuple(chunks), cuts_off=True)]

    answer = await http.post(RESPONSES, json=STREAM | {"model": "plain"})

    last = events_of(answer.content)[-1]
    assert (last["type"], last["error"]["code"]) == ("error", code)
    row = await native.turn(answer.headers["x-request-id"])
    assert row.is_estimated
    assert 0 < row.completion_tokens < 10


async def test_a_caller_who_leaves_is_charged_for_what_was_forwarded(native, http):
    upstream = native.upstreams.by_name["alpha"] = SteppedUpstream()
    upstream.send(b"".join(response_chunks()[:5]))
    asked = STREAM | {"metadata": {"job": "left"}, "model": "plain"}
    async with http.stream("POST", RESPONSES, json=asked) as answer:
        assert await anext(answer.aiter_bytes())
    await asyncio.wait_for(upstream.client_has_left.wait(), PATIENCE_S)

    row = await native.labelled_turn("left")
    assert row.error == CLIENT_LEFT
    assert 0 < row.completion_tokens < 10


async def test_openais_sdk_reads_it(native):
    native.alpha.answers = [Answer(tuple(response_chunks()))]
    async with openai.AsyncOpenAI(base_url=f"{native.url}/v1", api_key=native.key) as client:
        stream = await client.responses.create(**STREAM)
        events = [event async for event in stream]

    assert events[-1].response.output_text == "Hello!"


async def test_what_the_gateway_decides_is_put_in(native, http):
    await http.post(RESPONSES, json=HELLO | {"model": "own", "instructions": "Be brief."})

    assert native.alpha.last.body == {
        "model": "gpt-5-up",
        "input": "Say hello.",
        "instructions": "Be kind.\n\nBe brief.",
        "max_output_tokens": 77,
        "text": {"verbosity": "low"},
        "reasoning": {"effort": "low"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }


async def test_what_a_model_would_refuse_is_left_out(native, http):
    answer = await http.post(RESPONSES, json=AGENT | {"model": SMALL, "temperature": 0.5})
    assert "temperature" not in native.alpha.last.body
    assert "temperature" in answer.headers["x-waypost-dropped"]

    answer = await http.post(RESPONSES, json=AGENT | {"model": "plain"})
    sent = native.alpha.last.body
    assert ("reasoning" in sent, sent["include"], sent["temperature"]) == (False, [], 0.5)
    assert "reasoning" in answer.headers["x-waypost-dropped"]


async def test_thoughts_and_names_of_other_hosts_are_left_out(native, http):
    others = [
        {"role": "user", "content": "Hi."},
        {
            "type": "reasoning",
            "id": "rs_wp_x_0",
            "summary": [{"type": "summary_text", "text": "a"}],
        },
        {
            "type": "function_call",
            "id": "fc_wp_x_1",
            "call_id": "c",
            "name": "f",
            "arguments": "{}",
        },
        {"type": "function_call_output", "call_id": "c", "output": "4"},
        {"type": "reasoning", "id": "rs_0a", "summary": [], "encrypted_content": "x"},
        {"type": "item_reference", "id": "rs_wp_x_0"},
    ]

    await http.post(RESPONSES, json=HELLO | {"model": SMALL, "input": others})

    sent = native.alpha.last.body["input"]
    assert [item.get("id") for item in sent] == [None, None, None, "rs_0a"]


@pytest.mark.parametrize(
    "field", [{"prompt_cache_options": {"ttl": "12h"}}, {"client_metadata": {"a": "b"}}]
)
async def test_what_nobody_judged_is_not_sent(native, http, field):
    answer = await http.post(RESPONSES, json=HELLO | {"model": SMALL} | field)

    assert answer.status_code == 200
    assert set(native.alpha.last.body) == {"model", "input", "store", "include"}


@pytest.mark.parametrize(
    "dear",
    [
        {"reasoning": {"mode": "pro"}},
        {"tools": [{"type": "web_search"}]},
        {"service_tier": "priority"},
        {"context_management": [{"type": "compaction"}]},
    ],
)
async def test_a_field_that_may_cost_more_is_refused(tmp_path, dear):
    async with running_gateway(tmp_path, also=NATIVE, limits={"extra_fields": []}) as gateway:
        async with gateway.caller() as http:
            answer = await http.post(RESPONSES, json=HELLO | {"model": SMALL} | dear)

        assert answer.status_code == 400, answer.text
        assert gateway.alpha.requests == []


async def test_a_tool_that_the_host_runs_is_passed_where_the_operator_allows_it(tmp_path):
    async with running_gateway(
        tmp_path, also=NATIVE, limits={"extra_fields": ["tools.web_search"]}
    ) as gateway:
        gateway.alpha.answers = [json_answer(response())]
        tool = {"type": "web_search", "search_context_size": "low"}
        asked = HELLO | {"model": SMALL, "tools": [tool], "tool_choice": {"type": "web_search"}}
        async with gateway.caller() as http:
            answer = await http.post(RESPONSES, json=asked)

        assert answer.status_code == 200, answer.text
        assert gateway.alpha.last.body["tools"] == [tool]


async def test_a_turn_budget_lowers_the_output_limit_and_the_effort(native, http):
    asked = HELLO | {"model": SMALL, "max_output_tokens": 5_000, "waypost": {"turn_budget": 400}}

    answer = await http.post(RESPONSES, json=asked)

    assert answer.status_code == 200, answer.text
    sent = native.alpha.last.body
    assert 0 < sent["max_output_tokens"] <= 400
    assert sent["reasoning"] == {"effort": "low"}


async def test_chat_goes_to_chat_completions_as_ever(native, http):
    native.alpha.answers = [json_answer(completion())]
    asked = {"model": SMALL, "messages": [{"role": "user", "content": "Hi."}]}

    answer = await http.post("/v1/chat/completions", json=asked)

    assert answer.status_code == 200
    assert native.alpha.last.path == "/alpha/v1/chat/completions"


async def test_a_whole_answer_to_a_stream_becomes_one(native, http):
    answer = await http.post(RESPONSES, json=STREAM)

    (said,) = events_of(answer.content)[-1]["response"]["output"]
    assert said["content"][0]["text"] == "Hello!"


async def test_what_is_no_response_is_the_hosts_fault(native, http):
    native.alpha.answers = [json_answer({"object": "list", "output": []})]
    assert (await http.post(RESPONSES, json=HELLO | {"model": SMALL})).status_code == 503

    native.alpha.answers = [error_answer(400, "Bad.", code="invalid_value", param="input")]
    refused = await http.post(RESPONSES, json=HELLO | {"model": SMALL})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")
