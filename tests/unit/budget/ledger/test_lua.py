"""The Lua script computes what the Python modules do, and leaves nothing behind."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from budget.ledger.amounts import MAX_AMOUNT, affordable_tokens, cost_nusd
from budget.ledger.types import Granted, Limit, Scope, UnjournaledCharge, Window
from tests.fakes.clocks import ManualClock
from tests.fakes.ledger_calls import opened
from tests.fakes.ledgers import bounds, hold, limit
from tests.fakes.redis import RedisServer, running_redis


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@given(st.lists(st.integers(-(10**9), 7_258_118_400), min_size=20, max_size=20))
@settings(max_examples=15)
def test_lua_and_python_agree_on_the_calendar(server: RedisServer, seconds: list[int]) -> None:
    windows: list[Window] = ["minute", "hour", "day", "week", "month"]
    limits = [limit("nusd", window, 1) for window in windows]

    async def resets() -> list[list[float | None]]:
        clock = ManualClock(0.0)
        async with opened(server, f"test-{uuid4().hex}", clock=clock) as store:
            answers = []
            for second in seconds:
                clock.now_s = float(second)
                answers.append([item.resets_in_s for item in await store.standings(limits)])
            return answers

    expected = [[bounds(window, second)[1] - second for window in windows] for second in seconds]
    assert asyncio.run(resets()) == expected


@given(
    st.lists(
        st.tuples(
            st.integers(0, MAX_AMOUNT),
            st.integers(0, 10**9),
            st.one_of(st.integers(0, 10**7), st.integers(0, 10**12)),
            st.integers(1, 10**6),
        ),
        min_size=20,
        max_size=20,
    )
)
@settings(max_examples=15)
def test_lua_and_python_agree_on_money(
    server: RedisServer, cases: list[tuple[int, int, int, int]]
) -> None:
    async def grants() -> list[tuple[int, int] | None]:
        async with opened(server, f"test-{uuid4().hex}") as store:
            answers: list[tuple[int, int] | None] = []
            for number, (cap, fixed, price, most) in enumerate(cases):
                of = Limit(Scope("acme", "key", str(number)), "nusd", "total", cap)
                wanted = hold("r" + str(number), of, nusd=fixed, price=price, most=most, least=0)
                answer = await store.reserve(wanted)
                if isinstance(answer, Granted):
                    answers.append((answer.completion_tokens, answer.nusd))
                else:
                    answers.append(None)
            return answers

    expected = []
    for cap, fixed, price, most in cases:
        tokens = affordable_tokens(cap - fixed, price, most)
        expected.append(None if tokens < 0 else (tokens, fixed + cost_nusd(tokens, price)))
    assert asyncio.run(grants()) == expected


async def test_every_key_expires_but_what_nobody_may_forget(server: RedisServer) -> None:
    clock = ManualClock(1_800_000_000.0)
    prefix = f"test-{uuid4().hex}"
    windows: list[Window] = ["minute", "hour", "day", "week", "month", "total"]
    limits = [limit("nusd", window, 10_000) for window in windows]
    slots = limit("concurrent", "now", 9)
    async with opened(server, prefix, clock=clock) as store:
        for name in ("lost", "settled", "open"):
            await store.reserve(hold(name, *limits, slots, lease_s=5.0))
            clock.advance(1.0)
        await store.settle("acme", "settled", 1, 1)
        clock.advance(3.0)
        await store.reap("acme")
        await store.standings(limits)
        clock.advance(0.5)
    async with Redis.from_url(server.url) as client:
        lives = {
            key.split(b"}:")[1]: await client.ttl(key)
            async for key in client.scan_iter(f"{{{prefix}:*")
        }
    assert {key for key, life in lives.items() if life < 0} == {
        b"leases",
        b"l:open",
        b"unjournaled",
        b"c:nusd:total:key:key-1",
        b"c:concurrent:now:key:key-1",
    }
    assert {b"l:lost", b"l:settled", b"c:nusd:minute:key:key-1"} <= set(lives)
    assert max(lives.values()) <= 31 * 86_400 + 60


async def test_nothing_is_left_of_what_was_used_up_and_journaled(server: RedisServer) -> None:
    prefix = f"test-{uuid4().hex}"
    async with opened(server, prefix) as store:
        limits = [limit("nusd", "total", 100), limit("concurrent", "now", 9)]
        await store.reserve(hold("r", *limits))
        await store.settle("acme", "r", 0, 0)
        await store.acknowledge("acme", [UnjournaledCharge("r", "acme", 0, 0, is_expired=False)])
    async with Redis.from_url(server.url) as client:
        keys = [key.split(b"}:")[1] async for key in client.scan_iter(f"{{{prefix}:*")]
    assert keys == [b"l:r"]


async def test_a_reservation_given_back_is_journaled_if_its_gateway_dies(
    server: RedisServer,
) -> None:
    clock, rate = ManualClock(1_800_000_000.0), limit("requests", "minute", 5)
    async with opened(server, f"test-{uuid4().hex}", clock=clock) as store:
        await store.reserve(hold("r", rate, lease_s=7.0))
        await store._run("abandon", "acme", "r", ())
        clock.advance(7.0)
        assert await store.reap("acme") == (UnjournaledCharge("r", "acme", 0, 0, is_expired=True),)
