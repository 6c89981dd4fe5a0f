"""The Lua script computes what the Python modules do."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger.amounts import MAX_AMOUNT, affordable_tokens, cost_nusd
from gateway.ledger.types import Limit, Refused, Scope
from gateway.ledger.windows import window_bounds
from tests.fakes.clocks import ManualClock
from tests.fakes.ledger_calls import opened
from tests.fakes.ledgers import hold, limit
from tests.fakes.redis import RedisServer, running_redis


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@given(st.lists(st.integers(-(10**9), 7_258_118_400), min_size=20, max_size=20))
@settings(max_examples=15)
def test_lua_and_python_agree_on_the_calendar(server: RedisServer, seconds: list[int]) -> None:
    windows = ["minute", "hour", "day", "week", "month"]
    limits = [limit("nusd", window, 1) for window in windows]

    async def resets() -> list[list[float | None]]:
        clock = ManualClock(0.0)
        async with opened(server, f"test-{uuid4().hex}", clock=clock) as store:
            answers = []
            for second in seconds:
                clock.now_s = float(second)
                answers.append([item.resets_in_s for item in await store.standings(limits)])
            return answers

    expected = [
        [window_bounds(window, second)[1] - second for window in windows] for second in seconds
    ]
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
            answers = []
            for number, (cap, fixed, price, most) in enumerate(cases):
                of = Limit(Scope("acme", "key", str(number)), "nusd", "total", cap)
                wanted = hold("r" + str(number), of, nusd=fixed, price=price, most=most, least=0)
                answer = await store.reserve(wanted)
                is_refused = isinstance(answer, Refused)
                answers.append(None if is_refused else (answer.completion_tokens, answer.nusd))
            return answers

    expected = []
    for cap, fixed, price, most in cases:
        tokens = affordable_tokens(cap - fixed, price, most)
        expected.append(None if tokens < 0 else (tokens, fixed + cost_nusd(tokens, price)))
    assert asyncio.run(grants()) == expected
