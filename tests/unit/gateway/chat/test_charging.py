import asyncio
from dataclasses import replace

import orjson
import pytest

from gateway.chat.charging import id_of
from gateway.errors import ProviderCutOff, ProviderTimeout, ProviderUnavailable, RateLimited
from gateway.evaluation_log.row_layout import MAX_ID_CHARS
from gateway.types import Usage
from tests.fakes.budgets import CALLER as BLUE
from tests.fakes.budgets import Bench as Metered
from tests.fakes.budgets import asked, migrated
from tests.fakes.chat import CALLER, PRICE, request
from tests.fakes.patience import PATIENCE_S
from tests.fakes.providers import BODY, USAGE, FakeProvider, FakeStream, event


@pytest.mark.parametrize("ending", [(), (ProviderCutOff("died"),), (FakeStream.HANG,)])
async def test_a_stream_that_ends_before_its_usage_is_charged_for_what_was_forwarded(
    bench, ending
) -> None:
    one = FakeProvider((*[event("word ")] * 50, *ending), usage=None)
    it = bench(one)
    async with asyncio.timeout(PATIENCE_S):
        async with it.service.stream(request(stream=True), CALLER) as answer:
            seen = 0
            async for _ in answer.events:
                seen += 1
                if seen == 50 and ending and ending[0] is FakeStream.HANG:
                    break
    assert it.row.usage.completion_tokens >= 50
    assert it.row.usage.prompt_tokens > 0
    assert it.row.usage.is_estimated
    assert it.row.cost_nusd == it.ledger.settled[0][2] > 0


async def test_a_count_that_came_before_the_end_is_not_taken_for_the_whole(bench) -> None:
    it = bench(FakeProvider((event("word " * 100), ProviderCutOff("died")), early=Usage(25, 1)))
    async with it.service.stream(request(stream=True), CALLER) as answer:
        async for _ in answer.events:
            pass
    assert it.row.usage.prompt_tokens == 25
    assert it.row.usage.completion_tokens >= 100


async def test_leaving_a_call_charges_the_most_it_was_allowed(bench) -> None:
    it = bench(FakeProvider(FakeStream.HANG))
    it.ledger.output = 700
    waiting = asyncio.create_task(it.service.complete(request(), CALLER))
    await it.ledger.reserved.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert it.row.usage.completion_tokens == 700
    assert it.row.usage.is_estimated


async def test_a_long_stream_is_charged_whole(bench) -> None:
    n_events = 10_000
    it = bench(FakeProvider((event("word ") * 100,) * (n_events // 100), usage=None))
    async with it.service.stream(request(stream=True), CALLER) as answer:
        async for _ in answer.events:
            pass
    assert it.row.usage.completion_tokens == n_events * len("word ")


LATE = ProviderTimeout("late")


async def test_a_call_that_was_given_up_for_another_model_is_charged_the_most_it_was_allowed(bench):
    it = bench(FakeProvider(LATE), FakeProvider(BODY))
    it.ledger.output = 700
    answer = await it.service.complete(request(), CALLER)

    (first, lost, lost_nusd), (second, used, used_nusd) = it.ledger.settled
    assert [first, second] == it.ledger.held_for == [it.row.request_id, f"{it.row.request_id}-1"]
    assert lost.completion_tokens == 700
    assert lost.is_estimated
    assert (it.row.given_up_nusd, it.row.cost_nusd) == (lost_nusd, used_nusd)
    assert lost_nusd == PRICE.cost_nusd(lost)
    assert it.row.usage == used == USAGE
    charged_usd = (lost_nusd + used_nusd) / 1e9
    assert orjson.loads(answer.body)["waypost"]["cost_usd"] == pytest.approx(charged_usd)


async def test_a_stream_that_was_given_up_for_another_model_is_charged_its_prompt(bench) -> None:
    it = bench(FakeProvider(LATE), FakeProvider((event("hi"),)))
    it.ledger.output = 700
    async with it.service.stream(request(stream=True), CALLER) as answer:
        async for _ in answer.events:
            pass
    lost = it.ledger.settled[0][1]
    assert lost.prompt_tokens > 0
    assert lost.completion_tokens == 0
    assert it.row.given_up_nusd > 0


async def test_a_model_that_refused_before_another_answered_costs_nothing(bench) -> None:
    it = bench(FakeProvider(ProviderUnavailable("overloaded")), FakeProvider(BODY))
    await it.service.complete(request(), CALLER)
    assert it.row.given_up_nusd == 0
    assert it.ledger.held_for == [it.row.request_id]


async def test_without_budget_for_another_call_the_first_failure_is_told(bench, monkeypatch):
    two = FakeProvider(BODY)
    it = bench(FakeProvider(LATE), two)
    reserve = it.ledger.reserve

    async def once(*args, charged):
        if charged is not None:
            raise RateLimited("full")
        return await reserve(*args)

    monkeypatch.setattr(it.ledger, "reserve", once)
    with pytest.raises(ProviderTimeout):
        await it.service.complete(request(), CALLER)
    assert two.calls == []
    assert len(it.ledger.settled) == 1
    assert it.row.given_up_nusd == it.ledger.settled[0][2] > 0
    assert it.row.cost_nusd == 0


@pytest.mark.parametrize("is_stream", [False, True])
async def test_attempts_before_the_one_that_answered_are_held_and_charged_apart(
    bench, is_stream
) -> None:
    broken = [ProviderCutOff("broke") for _ in range(2)]
    for attempts, error in enumerate(broken, 1):
        error.repeatable_after = attempts
    one, two = FakeProvider(*broken, (event("hi"),) if is_stream else BODY), FakeProvider(BODY)
    it = bench(one, two)
    if is_stream:
        async with it.service.stream(request(stream=True), CALLER) as answer:
            _ = [events async for events in answer.events]
    else:
        await it.service.complete(request(), CALLER)
    assert (len(one.calls), len(two.calls)) == (3, 0)
    assert it.ledger.held_for == [it.row.request_id + end for end in ("", "-1", "-2")]
    costs = [cost_nusd for _, _, cost_nusd in it.ledger.settled]
    assert it.row.given_up_nusd == sum(costs[:2]) > 0
    assert it.row.cost_nusd == costs[2]
    assert it.row.attempts == 3
    assert it.row.usage == USAGE


async def test_half_an_answer_is_charged_the_most_it_was_allowed(bench) -> None:
    it = bench(FakeProvider(ProviderCutOff("half")), FakeProvider(ProviderCutOff("half")))
    it.ledger.output = 700
    with pytest.raises(ProviderCutOff):
        await it.service.complete(request(), CALLER)
    assert [usage.completion_tokens for _, usage, _ in it.ledger.settled] == [700, 700]
    assert it.row.cost_nusd == it.row.given_up_nusd > 0


@pytest.mark.parametrize("cap", [1, 5])
async def test_a_fallback_is_no_second_request_of_its_caller(bench, tmp_path, cap) -> None:
    metered = Metered(migrated(f"sqlite:///{tmp_path / 'waypost.db'}"))
    await metered.cap(cap, measure="requests", window="minute")
    await metered.cap(10**9)
    it = bench(FakeProvider(LATE), FakeProvider(BODY))
    service = replace(it.service, ledger=metered.ledger)
    answer = await service.complete(asked(max_tokens=50), BLUE)
    metered.book.close()

    assert (await metered.standing(measure="requests", window="minute")).spent == 1
    assert dict(answer.headers)[b"x-ratelimit-remaining-requests"] == str(cap - 1).encode()
    assert (await metered.standing()).spent == it.row.cost_nusd + it.row.given_up_nusd
    counted = [row for row in metered.journal.rows if " tri " in row.lease.limits]
    assert len(metered.journal.rows) == 2
    assert len(counted) == 1


@pytest.mark.parametrize(
    ("measure", "cap"), [("nusd", 250_000), ("tokens", 200), ("output", 70), ("output", 100)]
)
async def test_a_turn_and_its_fallback_keep_to_the_limit_of_one_turn(
    bench, tmp_path, measure, cap
) -> None:
    metered = Metered(migrated(f"sqlite:///{tmp_path / 'waypost.db'}"))
    await metered.cap(cap, scope="turn", measure=measure)
    await metered.cap(10**9)
    two = FakeProvider(BODY)
    it = bench(FakeProvider(LATE), two)
    service = replace(it.service, ledger=metered.ledger)
    if cap == 100:
        await service.complete(asked(max_tokens=50), BLUE)
    else:
        with pytest.raises(ProviderTimeout):
            await service.complete(asked(max_tokens=50), BLUE)
    metered.book.close()

    charged = [row.charged_output_tokens for row in metered.journal.rows]
    assert charged == ([50, 5] if cap == 100 else [50])
    assert it.row.given_up_nusd > 0


def test_of_an_id_of_any_length_the_beginning_is_kept() -> None:
    given = {"id": "x" * 1_000_000}
    assert id_of(asked(), given, is_native=False) == "x" * MAX_ID_CHARS
