import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProviderRejected, ProviderTimeout, ProviderUnavailable
from gateway.providers.base import BreakerState
from gateway.providers.failures import AttemptFailed
from gateway.providers.limiter import Limiter
from gateway.providers.resilience import Backoff, Breaker, Resilience


@dataclass
class FakeTime:
    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def resilience(time: FakeTime, **changes: int) -> Resilience:
    return Resilience(
        provider="acme",
        max_retries=changes.get("max_retries", 2),
        breaker_failures=changes.get("breaker_failures", 5),
        breaker_cooldown_s=10.0,
        limiter=Limiter("acme", 1, 0.0),
        backoff=Backoff(random.Random(7)),
        clock=time.clock,
        sleep=time.sleep,
    )


def unavailable(retry_after_s: float | None = None) -> AttemptFailed:
    error = ProviderUnavailable("down", retry_after_s=retry_after_s)
    return AttemptFailed(error, is_retryable=True)


def rejection() -> AttemptFailed:
    return AttemptFailed(ProviderRejected("no"), is_retryable=False, counts=False)


def scripted(*outcomes: object) -> Callable[[], Awaitable[object]]:
    left = list(outcomes)

    async def once() -> object:
        outcome = left.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return once


async def test_tries_again_until_it_succeeds() -> None:
    time = FakeTime()
    limits = resilience(time)
    once = scripted(unavailable(), unavailable(), "answer")
    assert await limits.attempt(limits.breaker("m"), 200.0, once) == ("answer", 3)
    assert len(time.slept) == 2


async def test_gives_up_after_the_last_retry() -> None:
    limits = resilience(FakeTime(), max_retries=1)
    once = scripted(unavailable(), unavailable(), "never")
    with pytest.raises(ProviderUnavailable):
        await limits.attempt(limits.breaker("m"), 200.0, once)


async def test_does_not_repeat_what_cannot_succeed() -> None:
    limits = resilience(FakeTime())
    with pytest.raises(ProviderRejected):
        await limits.attempt(limits.breaker("m"), 200.0, scripted(rejection(), "never"))


async def test_waits_as_long_as_the_provider_asks() -> None:
    time = FakeTime()
    limits = resilience(time)
    await limits.attempt(limits.breaker("m"), 200.0, scripted(unavailable(7.0), "answer"))
    assert time.slept == [7.0]


async def test_does_not_wait_past_the_deadline() -> None:
    time = FakeTime()
    limits = resilience(time)
    with pytest.raises(ProviderUnavailable):
        await limits.attempt(limits.breaker("m"), 105.0, scripted(unavailable(7.0), "never"))
    assert time.slept == []


async def test_leaves_a_provider_that_asks_for_too_long_a_wait() -> None:
    limits = resilience(FakeTime())
    with pytest.raises(ProviderUnavailable) as caught:
        await limits.attempt(limits.breaker("m"), 900.0, scripted(unavailable(60.0), "never"))
    assert caught.value.retry_after_s == 60.0


async def test_starts_nothing_after_the_deadline() -> None:
    limits = resilience(FakeTime())
    with pytest.raises(ProviderTimeout):
        await limits.attempt(limits.breaker("m"), 100.0, scripted("never"))


async def test_opens_after_failures_in_a_row_and_stops_retrying() -> None:
    limits = resilience(FakeTime(), max_retries=9, breaker_failures=3)
    breaker = limits.breaker("m")
    with pytest.raises(ProviderUnavailable, match="down"):
        await limits.attempt(breaker, 900.0, scripted(*[unavailable() for _ in range(9)]))
    assert not breaker.is_available()
    with pytest.raises(ProviderUnavailable, match="paused") as caught:
        await limits.attempt(breaker, 900.0, scripted("never"))
    assert caught.value.retry_after_s == pytest.approx(10.0)


async def test_breakers_of_two_models_are_apart() -> None:
    limits = resilience(FakeTime(), max_retries=0, breaker_failures=1)
    with pytest.raises(ProviderUnavailable):
        await limits.attempt(limits.breaker("m"), 900.0, scripted(unavailable()))
    assert not limits.breaker("m").is_available()
    assert limits.breaker("n").is_available()
    assert limits.paused() == ["m"]


async def test_the_callers_faults_do_not_open_the_breaker() -> None:
    limits = resilience(FakeTime(), breaker_failures=1)
    with pytest.raises(ProviderRejected):
        await limits.attempt(limits.breaker("m"), 900.0, scripted(rejection()))
    assert limits.breaker("m").is_available()


async def test_a_cancelled_probe_lets_the_next_one_through() -> None:
    time = FakeTime()
    limits = resilience(time, max_retries=0, breaker_failures=1)
    breaker = limits.breaker("m")
    with pytest.raises(ProviderUnavailable):
        await limits.attempt(breaker, 900.0, scripted(unavailable()))
    time.now += 10
    with pytest.raises(asyncio.CancelledError):
        await limits.attempt(breaker, 900.0, scripted(asyncio.CancelledError()))
    assert breaker.is_available()


def opened(time: FakeTime) -> Breaker:
    breaker = Breaker(failures=2, cooldown_s=10.0, clock=time.clock)
    breaker.failed()
    breaker.failed()
    return breaker


def test_lets_a_single_probe_through_after_the_cooldown() -> None:
    time = FakeTime()
    breaker = opened(time)
    assert not breaker.admit()
    time.now += 10
    assert breaker.admit()
    assert not breaker.admit()
    assert not breaker.is_available()


def test_closes_when_the_probe_succeeds() -> None:
    time = FakeTime()
    breaker = opened(time)
    time.now += 10
    breaker.admit()
    breaker.succeeded()
    assert breaker.admit()
    assert breaker.wait_s() == 0.0


def test_opens_again_when_the_probe_fails() -> None:
    time = FakeTime()
    breaker = opened(time)
    time.now += 10
    breaker.admit()
    breaker.failed()
    assert not breaker.is_available()
    assert breaker.wait_s() == 10.0


def test_a_begun_answer_ends_the_probe_but_one_failure_more_opens_again() -> None:
    time = FakeTime()
    breaker = opened(time)
    time.now += 10
    breaker.admit()
    breaker.answered()
    assert breaker.is_available()
    breaker.failed()
    assert not breaker.is_available()


def test_success_forgets_earlier_failures() -> None:
    breaker = Breaker(failures=2, cooldown_s=10.0, clock=FakeTime().clock)
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.is_available()


@given(st.integers(0, 100), st.integers(0, 2**32), st.none() | st.floats(0, 60))
def test_waits_within_the_ceiling_or_as_asked(retry: int, seed: int, asked: float | None) -> None:
    delay_s = Backoff(random.Random(seed)).delay_s(retry, asked)
    assert (asked or 0.0) <= delay_s <= max(8.0, asked or 0.0)
    assert delay_s <= max(0.2 * 2**retry, asked or 0.0)


async def test_says_how_a_provider_does() -> None:
    limiter = Limiter("acme", slots=3, wait_s=1.0)
    resilience = Resilience(
        provider="acme",
        max_retries=0,
        breaker_failures=1,
        breaker_cooldown_s=10.0,
        limiter=limiter,
        backoff=Backoff(random.Random(0)),
        clock=lambda: 0.0,
        sleep=asyncio.sleep,
    )
    breaker = resilience.breaker("m")
    async with limiter.place("a"):
        breaker.failed()
        breaker.failed()
        condition = resilience.condition()

    assert (condition.in_flight, condition.waiting, condition.limit) == (1, 0, 3)
    assert condition.breakers["m"] == BreakerState(is_open=True, times_opened=1)
    breaker.succeeded()
    assert resilience.condition().breakers["m"] == BreakerState(is_open=False, times_opened=1)
    assert resilience.condition().in_flight == 0
