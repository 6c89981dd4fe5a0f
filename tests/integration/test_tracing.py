"""Traces as a real collector gets them, over OTLP and HTTP."""

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.access.keys import KeyStore
from gateway.budgets.definitions import scope_digest
from gateway.settings.config import TracingSettings
from gateway.telemetry.tracing import Untraced, open_tracing
from tests.fakes.collector import Collector, told
from tests.fakes.gateway import LARGE, SMALL, RunningGateway, running_gateway
from tests.fakes.server import serve
from tests.fakes.upstream import completion, error_answer, json_answer, stream_answer

ROOT = Path(__file__).resolve().parents[2]
CHAT = "/v1/chat/completions"
BODY = {"model": "auto", "messages": [{"role": "user", "content": "A very private question."}]}
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
Traced = Callable[..., AbstractAsyncContextManager[tuple[RunningGateway, Collector]]]


@pytest.fixture
def traced(tmp_path) -> Traced:
    """Run a gateway that sends traces; they have all arrived once the context is left."""

    @asynccontextmanager
    async def run(**tracing: Any) -> AsyncIterator[tuple[RunningGateway, Collector]]:
        collector = Collector()
        async with serve(collector, lifespan="off") as url:
            settings = {"endpoint": f"{url}/v1/traces", **tracing}
            async with running_gateway(tmp_path, tracing=settings) as gateway:
                gateway.alpha.answers = [json_answer(completion())]
                gateway.beta.answers = [json_answer(completion())]
                yield gateway, collector

    return run


async def test_a_turn_is_a_span_with_its_steps_and_its_call_inside(traced):
    tenant = {"x-tenant": "acme"}
    async with traced(headers=tenant) as (gateway, collector), gateway.caller() as http:
        answer = await http.post(CHAT, json=BODY | {"temperature": 0.5})

    (turn,) = collector.named("chat auto")
    (call,) = collector.named("chat alpha-small")
    (route,), (reserve,) = collector.named("route"), collector.named("reserve")
    assert turn.kind == Span.SPAN_KIND_SERVER
    assert call.kind == Span.SPAN_KIND_CLIENT
    assert {route.parent_span_id, reserve.parent_span_id, call.parent_span_id} == {turn.span_id}
    assert turn.parent_span_id == b""
    assert collector.headers[0]["x-tenant"] == "acme"
    told_turn, told_call = told(turn), told(call)
    assert told_turn["gen_ai.operation.name"] == "chat"
    assert told_turn["gen_ai.request.model"] == "auto"
    assert told_turn["gen_ai.request.temperature"] == 0.5
    assert told_turn["gen_ai.response.model"] == SMALL
    assert told_turn["gen_ai.response.finish_reasons"] == ["stop"]
    assert told_turn["gen_ai.usage.output_tokens"] == 3
    assert told_turn["waypost.request_id"] == answer.headers["x-request-id"]
    assert told_turn["waypost.router.version"] == answer.headers["x-waypost-router-version"]
    assert told_call["gen_ai.provider.name"] == "alpha"
    assert told_call["gen_ai.request.model"] == "alpha-small"


async def test_a_trace_goes_on_through_the_gateway(traced):
    async with traced() as (gateway, collector):
        async with gateway.caller() as http:
            await http.post(CHAT, json=BODY, headers={"traceparent": PARENT, "tracestate": "a=b"})
        sent = gateway.alpha.last.headers

    (turn,), (call,) = collector.named("chat auto"), collector.named("chat alpha-small")
    assert turn.trace_id.hex() == call.trace_id.hex() == TRACE_ID
    assert turn.parent_span_id.hex() == "00f067aa0ba902b7"
    assert sent["traceparent"] == f"00-{TRACE_ID}-{call.span_id.hex()}-01"
    assert sent["tracestate"] == "a=b"


async def test_a_fallback_is_a_second_call_in_the_same_turn(traced):
    async with traced() as (gateway, collector):
        gateway.alpha.answers = [error_answer(503, "down")]
        async with gateway.caller() as http:
            await http.post(CHAT, json=BODY | {"stream": True})
            gateway.beta.answers = [stream_answer()]
            await http.post(CHAT, json=BODY | {"stream": True})

    failed, _ = collector.named("chat alpha-small")
    _, answered = collector.named("chat beta-large")
    _, turn = collector.named("chat auto")
    assert told(failed)["error.type"] == "ProviderUnavailable"
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert failed.end_time_unix_nano <= answered.start_time_unix_nano
    assert told(answered)["gen_ai.response.model"] == LARGE
    assert "error.type" not in told(answered) | told(turn)
    assert turn.end_time_unix_nano >= answered.end_time_unix_nano


async def test_a_refused_turn_says_why(traced):
    async with traced() as (gateway, collector), gateway.caller() as http:
        await http.post(CHAT, json=BODY | {"model": "nothing"})

    (turn,), (route,) = collector.named("chat nothing"), collector.named("route")
    assert told(turn)["error.type"] == told(route)["error.type"] == "ModelNotFound"


async def test_a_number_that_no_span_can_hold_costs_nobody_a_trace(traced):
    async with traced() as (gateway, collector), gateway.caller() as http:
        for number in (10**30, -(10**30), 2**63, 1.5):
            await http.post(CHAT, json=BODY | {"seed": number, "temperature": number})
        await http.post(CHAT, json=BODY | {"seed": 7})

    seeds = [told(turn).get("gen_ai.request.seed") for turn in collector.named("chat auto")]
    assert seeds == [None, None, None, 1.5, 7]


@pytest.mark.parametrize(("content", "keeps_text"), [(False, True), (True, False)])
async def test_prompts_stay_out_unless_both_operator_and_team_agree(traced, content, keeps_text):
    async with traced(content=content) as (gateway, collector):
        KeyStore(gateway.engine).update_team("default", logs_text=keeps_text)
        async with gateway.caller() as http:
            await http.post(CHAT, json=BODY)

    assert len(collector.spans) == 4
    assert b"private" not in collector.raw


async def test_prompts_are_on_spans_where_both_agree(traced):
    async with traced(content=True) as (gateway, collector):
        KeyStore(gateway.engine).update_team("default", logs_text=True)
        async with gateway.caller() as http:
            await http.post(CHAT, json=BODY)

    (turn,) = collector.named("chat auto")
    assert "A very private question." in told(turn)["gen_ai.input.messages"]


async def test_a_caller_that_does_not_sample_is_heeded(traced):
    async with traced() as (gateway, collector), gateway.caller() as http:
        await http.post(CHAT, json=BODY, headers={"traceparent": PARENT[:-1] + "0"})

    assert collector.spans == []


async def test_a_dead_collector_costs_no_answer(tmp_path):
    tracing = {"endpoint": "http://127.0.0.1:1/v1/traces", "timeout_s": 0.1}
    async with running_gateway(tmp_path, tracing=tracing) as gateway:
        gateway.alpha.answers = [json_answer(completion())]
        async with gateway.caller() as http:
            answer = await http.post(CHAT, json=BODY)

    assert answer.status_code == 200


async def test_without_an_endpoint_nobody_listens():
    async with open_tracing(TracingSettings()) as tracing:
        assert isinstance(tracing, Untraced)


def test_a_gateway_that_does_not_trace_loads_no_tracer():
    program = (
        "import sys, gateway.app, gateway.commands.serve; print('opentelemetry' in sys.modules)"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )

    assert ended.stdout == "False\n"


async def test_the_log_has_the_id_of_each_turns_trace(traced):
    async with traced() as (gateway, collector):
        async with gateway.caller() as http:
            await http.post(CHAT, json=BODY)
            await http.post(CHAT, json=BODY, headers={"traceparent": PARENT})
        began, joined = await gateway.turns(2)

    first, second = collector.named("chat auto")
    assert began.trace_id == first.trace_id.hex()
    assert joined.trace_id == second.trace_id.hex() == TRACE_ID


async def test_without_tracing_the_log_has_the_id_that_the_caller_sent(tmp_path):
    async with running_gateway(tmp_path) as gateway:
        gateway.alpha.answers = [json_answer(completion())]
        async with gateway.caller() as http:
            for sent in ({"traceparent": PARENT}, {"traceparent": "marked words"}, {}):
                await http.post(CHAT, json=BODY, headers=sent)
        turns = await gateway.turns(3)

    assert [turn.trace_id for turn in turns] == [TRACE_ID, None, None]


async def test_the_log_has_a_digest_of_the_end_user_and_not_the_name(tmp_path):
    async with running_gateway(tmp_path) as gateway:
        gateway.alpha.answers = [json_answer(completion())]
        async with gateway.caller() as http:
            for named in ({"user": "alice"}, {"safety_identifier": "alice"}, {}):
                await http.post(CHAT, json=BODY | named)
        turns = await gateway.turns(3)

    digest = scope_digest("default", "user", "alice")
    assert [turn.user_digest for turn in turns] == [digest, digest, None]
