import asyncio

import pytest

from gateway.errors import (
    ProviderCutOff,
)
from gateway.types import Usage
from tests.fakes.chat import CALLER, request
from tests.fakes.patience import PATIENCE_S
from tests.fakes.providers import FakeProvider, FakeStream, event


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
    assert it.row.usage.completion_tokens == pytest.approx(n_events * len("word "), rel=0.01)
