import asyncio
from dataclasses import replace

import orjson
import pytest

from gateway.errors import (
    ModelNotFound,
    ProviderCutOff,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from gateway.types import Caller, Capabilities
from tests.fakes.chat import CALLER, FIRST, HI, request, streamed
from tests.fakes.providers import BODY, FakeProvider, FakeStream, event


async def test_answers_with_the_provider_s_body_and_says_how_it_was_routed(bench) -> None:
    it = bench(FakeProvider({**BODY, "x_unknown": 1}))
    answer = await it.service.complete(request(), CALLER)
    body = orjson.loads(answer.body)
    own = body.pop("waypost")
    assert body == {**BODY, "x_unknown": 1}
    assert (own["model"], own["provider"], own["propensity"]) == ("first", "one", 0.5)
    assert own["cost_usd"] == pytest.approx(20e-6)
    headers = dict(answer.headers)
    assert headers[b"x-waypost-model"] == b"first"
    assert headers[b"x-waypost-router-version"] == b"v1"
    assert headers[b"x-waypost-cost-usd"] == b"0.000020000"
    assert headers[b"x-waypost-decision-id"].decode() == own["decision_id"]


async def test_logs_one_row_and_settles_what_was_used(bench) -> None:
    it = bench(FakeProvider(BODY))
    await it.service.complete(request(), CALLER)
    assert it.row.served_model == "first"
    assert it.row.answer_id == "chatcmpl-1"
    assert it.row.finish_reason == "stop"
    assert it.row.error is None
    assert it.ledger.settled == [(it.row.request_id, it.row.usage, 20_000)]


@pytest.mark.parametrize("failure", [ProviderTimeout, ProviderUnavailable, ProviderCutOff])
async def test_falls_back_to_the_next_model(bench, failure) -> None:
    it = bench(FakeProvider(failure("down")))
    answer = await it.service.complete(request(), CALLER)
    assert dict(answer.headers)[b"x-waypost-model"] == b"second"
    assert (it.row.chosen_model, it.row.served_model) == ("first", "second")
    assert it.row.attempts == 2


async def test_does_not_fall_back_where_the_request_itself_was_refused(bench) -> None:
    two = FakeProvider(BODY)
    it = bench(FakeProvider(ProviderRejected("bad", status=400)), two)
    with pytest.raises(ProviderRejected):
        await it.service.complete(request(), CALLER)
    assert two.calls == []
    assert it.row.error == "ProviderRejected"


async def test_raises_the_last_failure_where_every_model_failed(bench) -> None:
    it = bench(FakeProvider(ProviderTimeout("a")), FakeProvider(ProviderUnavailable("b")))
    with pytest.raises(ProviderUnavailable) as caught:
        await it.service.complete(request(), CALLER)
    assert (b"x-request-id", it.row.request_id.encode()) in caught.value.headers
    assert it.ledger.settled[1:] == [(f"{it.row.request_id}-1", None, 0)]


async def test_does_not_fall_back_after_the_deadline(bench, monkeypatch) -> None:
    two = FakeProvider(BODY)
    one = FakeProvider(ProviderTimeout("slow"))
    it = bench(one, two)
    it.service.metrics.fell_back = lambda *a: None
    original = one._next

    def late(call):
        it.time_s[0] = 61.0
        return original(call)

    monkeypatch.setattr(one, "_next", late)
    with pytest.raises(ProviderTimeout):
        await it.service.complete(request(), CALLER)
    assert two.calls == []


async def test_a_request_that_cannot_be_planned_is_logged_and_holds_nothing(bench) -> None:
    it = bench(FakeProvider(BODY), error=ModelNotFound("no"))
    with pytest.raises(ModelNotFound):
        await it.service.complete(request(), CALLER)
    assert (it.row.error, it.row.served_model) == ("ModelNotFound", None)
    assert it.ledger.held_for == []


async def test_estimates_usage_where_the_provider_reports_none(bench) -> None:
    it = bench(FakeProvider(BODY, usage=None))
    answer = await it.service.complete(request(), CALLER)
    assert it.row.usage.is_estimated
    assert it.row.cost_nusd > 0
    assert orjson.loads(answer.body)["waypost"]["usage_is_estimated"]


async def test_forwards_the_events_of_a_stream_as_they_are(bench) -> None:
    it = bench(FakeProvider(HI))
    assert await streamed(it) == b"".join(HI) + b"data: [DONE]\n\n"
    assert it.row.finish_reason == "stop"
    assert it.row.usage.completion_tokens == 5
    assert it.row.is_stream


async def test_ends_a_stream_with_usage_and_routing_where_the_caller_asked(bench) -> None:
    it = bench(FakeProvider(HI))
    sent = await streamed(it, stream_options={"include_usage": True})
    last, done = sent.removeprefix(b"".join(HI)).split(b"\n\n")[:2]
    final = orjson.loads(last.removeprefix(b"data: "))
    assert done == b"data: [DONE]"
    assert final["usage"] == BODY["usage"]
    assert final["waypost"]["model"] == "first"
    assert final["waypost"]["cost_usd"] == pytest.approx(20e-6)


async def test_writes_an_estimated_usage_chunk_where_the_provider_sent_none(bench) -> None:
    it = bench(FakeProvider(HI, usage=None))
    sent = await streamed(it, stream_options={"include_usage": True})
    final = orjson.loads(sent.split(b"\n\n")[-3].removeprefix(b"data: "))
    assert final["id"] == "chatcmpl-1"
    assert final["choices"] == []
    assert final["usage"]["completion_tokens"] == 2
    assert final["waypost"]["usage_is_estimated"]


async def test_falls_back_before_the_first_event_of_a_stream(bench) -> None:
    it = bench(FakeProvider(ProviderUnavailable("down")), FakeProvider(HI))
    assert (await streamed(it)).startswith(HI[0])
    assert it.row.served_model == "second"


async def test_does_not_fall_back_once_the_answer_has_begun(bench) -> None:
    two = FakeProvider(HI)
    it = bench(FakeProvider((HI[0], ProviderCutOff("cut"))), two)
    sent = await streamed(it)
    assert two.calls == []
    assert sent.startswith(HI[0])
    assert b"provider_cut_off" in sent
    assert b"[DONE]" not in sent
    assert it.row.error == "ProviderCutOff"


async def test_a_bug_in_a_stream_ends_it_with_an_error_event(bench) -> None:
    it = bench(FakeProvider((HI[0], KeyError("secret"))))
    sent = await streamed(it)
    assert b"internal_error" in sent
    assert b"secret" not in sent
    assert it.row.error == "KeyError"


async def test_settles_and_closes_the_upstream_when_the_caller_leaves_a_stream(bench) -> None:
    one = FakeProvider((HI[0], FakeStream.HANG))
    it = bench(one)
    begun = asyncio.Event()

    async def read() -> None:
        async with it.service.stream(request(stream=True), CALLER) as answer:
            async for _ in answer.events:
                begun.set()

    reading = asyncio.create_task(read())
    await begun.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert one.closed_streams == 1
    assert it.row.error == "ClientLeft"
    assert it.row.usage.is_estimated
    assert len(it.ledger.settled) == 1


async def test_settles_when_the_caller_leaves_while_waiting_for_json(bench) -> None:
    it = bench(FakeProvider(FakeStream.HANG))
    waiting = asyncio.create_task(it.service.complete(request(), CALLER))
    await it.ledger.reserved.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert it.row.error == "ClientLeft"
    assert len(it.ledger.settled) == 1


async def test_keeps_the_query_s_text_only_where_the_team_opted_in(bench) -> None:
    it = bench(FakeProvider(BODY))
    await it.service.complete(request(), CALLER)
    await it.service.complete(request(), Caller("k", "t", logs_text=True))
    assert [row.query_text for row in it.log.rows] == [None, "hello"]


async def test_keeps_prompt_and_answer_only_where_the_team_trains_a_reasoner(bench) -> None:
    it = bench(FakeProvider(BODY, BODY))
    await it.service.complete(request(), Caller("k", "t", logs_text=True))
    await it.service.complete(request(), Caller("k", "t", trains_reasoner=True))
    assert [row.messages for row in it.log.rows] == [None, ({"role": "user", "content": "hello"},)]
    assert [row.answer for row in it.log.rows] == [None, BODY["choices"][0]["message"]["content"]]


async def test_keeps_the_text_of_a_whole_stream_but_not_of_a_broken_one(bench) -> None:
    it = bench(FakeProvider(HI, (event("h"), ProviderCutOff("gone"))))
    for _ in range(2):
        async with it.service.stream(request(), Caller("k", "t", trains_reasoner=True)) as answer:
            _ = [events async for events in answer.events]
    assert [row.answer for row in it.log.rows] == ["hi", None]


async def test_keeps_metadata_strings_and_the_task_label(bench) -> None:
    it = bench(FakeProvider(BODY))
    sent = request(metadata={"app": "a", "n": 1}, waypost={"task": "maths"})
    await it.service.complete(sent, CALLER)
    assert it.row.metadata == {"task": "maths", "app": "a"}


BUDGET = {"waypost": {"turn_budget": 3000, "conversation_id": "c"}}


async def test_a_turn_without_a_budget_is_neither_looked_up_nor_capped(bench) -> None:
    it = bench(FakeProvider(BODY))
    answer = await it.service.complete(request(), CALLER)
    assert (it.ledger.asked, it.ledger.caps) == ([], [None])
    assert "turn_budget" not in orjson.loads(answer.body)["waypost"]
    assert it.row.allotted_tokens is None


async def test_a_turn_s_allotment_is_held_and_enforced(bench) -> None:
    one = FakeProvider(BODY)
    it = bench(one)
    await it.service.complete(request(**BUDGET), CALLER)
    assert [(cap.tokens, cap.limit.cap) for cap in it.ledger.caps] == [(256, 3000)]
    assert one.calls[0].body["max_tokens"] == 256


async def test_says_what_a_turn_was_allotted_and_logs_it(bench) -> None:
    it = bench(FakeProvider(BODY))
    answer = await it.service.complete(request(**BUDGET), CALLER)
    assert orjson.loads(answer.body)["waypost"]["turn_budget"] == {
        "budget_tokens": 3000,
        "proposed_tokens": 256,
        "allotted_tokens": 256,
        "policy_version": "split",
        "propensity": 1.0,
    }
    assert dict(answer.headers)[b"x-waypost-turn-allotted-tokens"] == b"256"
    row = it.row
    assert (row.budget_tokens, row.proposed_tokens, row.allotted_tokens) == (3000, 256, 256)
    assert (row.policy_version, row.policy_propensity) == ("split", 1.0)


async def test_a_turn_that_was_cut_off_raises_the_next_allotment(bench) -> None:
    it = bench(FakeProvider(BODY, finish_reason="length"))
    for _ in range(2):
        await it.service.complete(request(**BUDGET), CALLER)
    assert [row.proposed_tokens for row in it.log.rows] == [256, 512]


async def test_an_arm_cut_off_by_its_own_limit_raises_nothing(bench) -> None:
    brief = replace(FIRST, request_defaults={"max_tokens": 24})
    it = bench(FakeProvider(BODY, finish_reason="length"), models=(brief,))
    for _ in range(2):
        await it.service.complete(request(**BUDGET), CALLER)
    assert [row.proposed_tokens for row in it.log.rows] == [256, 256]


async def test_a_model_that_reasons_is_told_how_much(bench) -> None:
    one = FakeProvider(BODY)
    reasoner = replace(FIRST, capabilities=Capabilities(reasoning="effort"))
    it = bench(one, models=(reasoner,))
    await it.service.complete(request(**BUDGET), CALLER)
    await it.service.complete(request(), CALLER)
    assert [call.body.get("reasoning_effort") for call in one.calls] == ["low", None]


async def test_the_model_is_told_its_allotment_where_the_settings_say_so(bench) -> None:
    one = FakeProvider(BODY)
    it = bench(one, budgets={"tells_model": True})
    await it.service.complete(request(**BUDGET), CALLER)
    assert one.calls[0].model.system_prompt == "Think for at most 256 tokens."


async def test_counts_what_allotted_turns_use(bench) -> None:
    it = bench(FakeProvider(BODY))
    await it.service.complete(request(**BUDGET), CALLER)
    kept = it.service.turn_budgets.counters
    assert (kept.turns, kept.allotted_tokens, kept.used_tokens) == (1, 256, 5)


async def test_a_turn_pays_once_for_what_it_explores_and_a_dry_run_nothing(bench) -> None:
    it = bench(FakeProvider(BODY))
    await it.service.plan(request(), CALLER, with_stderr=True)
    assert it.service.routing.followed == []
    await it.service.complete(request(), CALLER)
    assert len(it.service.routing.followed) == 1
