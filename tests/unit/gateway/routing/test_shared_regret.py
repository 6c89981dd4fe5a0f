"""Gateways on one store of counters lose together no more than the cap, whatever happens to one."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import numpy as np
import pytest
from redis.asyncio import Redis

from budget.ledger.memory import MemoryStore
from budget.ledger.redis_store import RedisStore
from budget.ledger.store import LedgerStore
from budget.ledger.types import Granted, Hold, Refused
from gateway.following import watch
from gateway.routing.exploring import DAY_S, LentRegret
from gateway.routing.shared_regret import PARTS, SHARE_OF_DAY, SharedRegret
from tests.fakes.redis import RedisServer, running_redis
from tests.fakes.turns import until

CAP = 1.6
LEASE_S = 600.0
DAY_BEGINS_S = 20_000 * DAY_S


class Clock:
    now_s = DAY_BEGINS_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
async def in_redis(redis: RedisServer, clock: Clock) -> AsyncIterator[RedisStore]:
    client = Redis.from_url(redis.url)
    counters = RedisStore(client, connect_timeout_s=5.0, call_timeout_s=5.0, clock=clock)
    yield counters
    await counters.aclose()
    await client.aclose()


def gateways(counters: LedgerStore, clock: Clock, count: int) -> list[SharedRegret]:
    budgets = [LentRegret(CAP, clock) for _ in range(count)]
    return [SharedRegret(budget, counters, LEASE_S, clock) for budget in budgets]


async def test_no_24_hours_see_more_than_the_cap_however_many_gateways_explore(clock) -> None:
    rng, counters = np.random.default_rng(0), MemoryStore(clock)
    spent: list[tuple[float, float]] = []
    many = gateways(counters, clock, 12)
    for _ in range(2 * 24 * 12):
        clock.now_s += 300.0
        for one in rng.permutation(np.array(many, dtype=object)):
            await one.refresh()
            # Nights are quiet, so that much could have been saved up.
            for regret in rng.exponential(0.01, 3) if clock.now_s % DAY_S > DAY_S / 2 else ():
                if regret <= one.budget.left_usd():
                    one.budget.spend(regret)
                    spent.append((clock.now_s, regret))
    days = [sum(usd for at, usd in spent if at // DAY_S == 20_000 + day) for day in range(2)]
    assert max(days) <= SHARE_OF_DAY * CAP * (1 + 1e-6)
    assert min(days) > 0.9 * SHARE_OF_DAY * CAP
    for since_s, _ in spent[::20]:
        window = [usd for at_s, usd in spent if since_s <= at_s < since_s + DAY_S]
        assert sum(window) <= CAP * (1 + 1e-6)


async def test_what_one_gateway_does_not_spend_another_one_may(clock) -> None:
    counters = MemoryStore(clock)
    first, second = gateways(counters, clock, 2)
    assert await first.refresh()
    assert first.budget.left_usd() == pytest.approx(CAP / PARTS)
    assert not await second.refresh()  # the day has only begun
    first.budget.spend(0.25 * CAP / PARTS)
    await first.aclose()
    assert first.budget.left_usd() == 0.0
    await second.refresh()
    assert second.budget.left_usd() == pytest.approx(0.75 * CAP / PARTS)


async def test_a_gateway_that_dies_is_taken_to_have_spent_its_part(clock) -> None:
    counters = MemoryStore(clock)
    dead, alive = gateways(counters, clock, 2)
    await dead.refresh()
    clock.now_s += LEASE_S
    await alive.refresh()
    come_in = SHARE_OF_DAY * CAP * (0.125 + LEASE_S / DAY_S)
    assert alive.budget.left_usd() == pytest.approx(come_in - CAP / PARTS, abs=1e-8)
    assert dead.budget.left_usd() == 0.0


async def test_without_the_counters_exploring_ends_with_the_lease_and_begins_again_with_them(
    clock, redis, in_redis
) -> None:
    (one,) = gateways(in_redis, clock, 1)
    clock.now_s += DAY_S / 2
    assert await one.refresh()
    one.budget.spend(0.01)
    before_usd = one.budget.left_usd()
    redis.kill()
    assert one.budget.left_usd() == before_usd > 0.0
    assert not await one.refresh()
    assert one.budget.left_usd() == 0.0
    redis.start()
    clock.now_s += LEASE_S
    while not await one.refresh():
        clock.now_s += 1.0
    assert one.budget.left_usd() == pytest.approx(CAP / PARTS)


async def test_two_gateways_on_one_redis_count_to_the_nano_usd(clock, in_redis) -> None:
    clock.now_s += DAY_S - 2 * LEASE_S
    many, spent = gateways(in_redis, clock, 2), 0.0
    for _ in range(40):
        clock.now_s += 1.0
        for one in many:
            await one.refresh()
            left = one.budget.left_usd()
            one.budget.spend(left / 2)
            spent += left / 2
    for one in many:
        await one.aclose()
    hold = many[0]._hold("to look")
    (standing,) = await in_redis.standings(hold.limits)
    assert standing.held == 0
    assert standing.spent == pytest.approx(spent * 1e9, abs=100)
    assert spent <= SHARE_OF_DAY * CAP + 1e-7


class FailingOnce(MemoryStore):
    """Counters of which the first look fails as nobody foresaw."""

    has_failed = False

    async def reserve(self, hold: Hold) -> Granted | Refused:
        if not self.has_failed:
            self.has_failed = True
            raise RuntimeError
        return await super().reserve(hold)


async def test_a_look_that_fails_is_not_the_last_one(clock) -> None:
    (one,) = gateways(FailingOnce(clock), clock, 1)
    watching = asyncio.create_task(watch(one, 0.0))
    await until(lambda: one.budget.left_usd() > 0.0)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
