"""Both ledger stores under parallel turns and under any order of calls."""

import asyncio
import random
from collections.abc import Sequence
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from redis.asyncio import Redis

from budget.ledger.memory import MemoryStore
from budget.ledger.redis_store import RedisStore
from budget.ledger.types import Granted, Refused, UnjournaledCharge
from tests.fakes.clocks import ManualClock
from tests.fakes.ledger_calls import PATIENT, stands
from tests.fakes.ledgers import CONVERSATION, KEY, TEAM, LedgerModel, hold, limit
from tests.fakes.redis import RedisServer

Reapable = MemoryStore | RedisStore
Opened = tuple[Reapable, Redis | None]
START_S = 1_798_761_570.0


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_parallel_turns_never_pass_the_cap_and_use_nearly_all_of_it(
    server: RedisServer, clock: ManualClock, kind: str
) -> None:
    clients = [Redis.from_url(server.url) for _ in range(4)]
    prefix = f"test-{uuid4().hex}"
    shared = [RedisStore(client, prefix, clock=clock, **PATIENT) for client in clients]
    stores: Sequence[Reapable] = shared if kind == "redis" else [MemoryStore(clock)]
    budget = limit("nusd", "total", 64 * 10 * 200 // 10, CONVERSATION)
    wider = limit("nusd", "month", 10**9, TEAM)
    charged = []

    async def caller(number: int) -> None:
        own, dice = stores[number % len(stores)], random.Random(number)
        for turn in range(10):
            answer = await own.reserve(
                hold(f"{number}-{turn}", budget, wider, nusd=100, least=20, most=300)
            )
            assert (
                all(item.spent + item.held <= item.limit.cap for item in answer.standings)
                if (isinstance(answer, Granted))
                else True
            )
            if isinstance(answer, Granted):
                await asyncio.sleep(0)
                used = 100 + dice.randint(0, answer.completion_tokens)
                charged.append(used)
                await own.settle("acme", f"{number}-{turn}", used, used)

    await asyncio.gather(*(caller(number) for number in range(64)))

    spent, held = await stands(stores[0], budget)
    assert spent == sum(charged)
    assert held == 0
    assert 0.95 * budget.cap <= spent <= budget.cap
    for own, client in zip(shared, clients, strict=True):
        await own.aclose()
        await client.aclose()


LIMITS = [
    limit("nusd", "minute", 300),
    limit("nusd", "total", 900, CONVERSATION),
    limit("nusd", "month", 1_500, TEAM),
    limit("tokens", "hour", 400, TEAM),
    limit("tokens", "week", 700),
    limit("output", "total", 200, CONVERSATION),
    limit("output", "day", 250),
    limit("requests", "minute", 6),
    limit("requests", "day", 12, TEAM),
    limit("concurrent", "now", 3, KEY),
]


class Interleavings(RuleBasedStateMachine):
    """Any order of calls, clock steps and restarts, compared with the model after each."""

    @staticmethod
    def open_store(clock: ManualClock, prefix: str) -> Opened:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock(START_S)
        self.model = LedgerModel()
        self.told: list[UnjournaledCharge] = []
        self.number = 0

    @initialize()
    def start(self) -> None:
        self.prefix = f"test-{uuid4().hex}"
        self.store, self.client = type(self).open_store(self.clock, self.prefix)

    def ask(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    @rule(
        limits=st.lists(st.sampled_from(LIMITS), min_size=1, unique=True),
        nusd=st.integers(0, 120),
        tokens=st.integers(0, 60),
        price=st.sampled_from([0, 1, 999_999, 1_000_000, 3_700_000]),
        least=st.integers(0, 20),
        most=st.integers(20, 60),
        lease_s=st.sampled_from([5.0, 30.0, 90.0]),
    )
    def reserve(self, limits, nusd, tokens, price, least, most, lease_s) -> None:
        self.number += 1
        wanted = hold(
            f"r{self.number}",
            *limits,
            nusd=nusd,
            tokens=tokens,
            price=price,
            least=least,
            most=most,
            lease_s=lease_s,
        )
        expected = self.model.grant(wanted, self.clock())
        answer = self.ask(self.store.reserve(wanted))
        self.hear(answer.unjournaled)
        if expected is None:
            assert isinstance(answer, Refused)
            assert answer.standing.limit in limits
        else:
            assert isinstance(answer, Granted)
            assert answer.completion_tokens == expected
            assert all(item.spent + item.held <= item.limit.cap for item in answer.standings)
            self.model.reserve(wanted, expected, self.clock())

    @precondition(lambda self: any(lease.is_open for lease in self.model.leases.values()))
    @rule(data=st.data())
    def reserve_again(self, data) -> None:
        lease = self.pick(data, is_open=True)
        answer = self.ask(self.store.reserve(lease.hold))
        self.hear(answer.unjournaled)
        assert isinstance(answer, Granted)
        assert (answer.completion_tokens, answer.nusd) == (lease.completion, lease.nusd)

    @precondition(lambda self: self.model.leases)
    @rule(data=st.data(), lease_s=st.sampled_from([5.0, 90.0]))
    def renew(self, data, lease_s) -> None:
        lease = self.pick(data)
        assert self.ask(self.store.renew("acme", lease.hold.request_id, lease_s)) == lease.is_open
        if lease.is_open:
            lease.ends_s = self.clock() + lease_s

    @precondition(lambda self: self.model.leases)
    @rule(
        data=st.data(),
        nusd=st.integers(0, 250),
        tokens=st.integers(0, 150),
        output=st.integers(0, 80),
    )
    def settle(self, data, nusd, tokens, output) -> None:
        request_id = self.pick(data).hold.request_id
        answer = self.ask(self.store.settle("acme", request_id, nusd, tokens, output))
        assert answer == self.model.settle(request_id, nusd, tokens, output, self.clock())

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def acknowledge_what_was_told(self, data) -> None:
        charge = data.draw(st.sampled_from(self.told), label="told")
        self.ask(self.store.acknowledge("acme", [charge]))
        self.model.acknowledge(charge)

    @precondition(lambda self: self.model.to_tell)
    @rule(data=st.data())
    def acknowledge_before_it_is_told(self, data) -> None:
        of = data.draw(st.sampled_from(sorted(self.model.to_tell)), label="charge")
        _, charge = self.model.to_tell[of]
        self.ask(self.store.acknowledge("acme", [charge]))
        self.model.acknowledge(charge)

    @rule()
    def reap(self) -> None:
        self.hear(self.ask(self.store.reap("acme")))

    @rule(seconds=st.sampled_from([1.0, 4.0, 15.0, 45.0, 1_800.0]))
    def wait(self, seconds) -> None:
        self.clock.advance(seconds)
        self.model.expire(self.clock())

    @rule()
    def restart_the_gateway(self) -> None:
        if self.client is not None:
            self.close()
            self.store, self.client = type(self).open_store(self.clock, self.prefix)

    @invariant()
    def agrees_with_the_model(self) -> None:
        now_s = self.clock()
        for standing in self.ask(self.store.standings(LIMITS)):
            of = standing.limit
            assert (of, standing.spent, standing.held, standing.resets_in_s) == (
                of,
                self.model.spent(of, now_s),
                self.model.held(of, now_s),
                self.model.resets_in_s(of, now_s),
            )

    def hear(self, told: tuple[UnjournaledCharge, ...]) -> None:
        assert len(set(told)) == len(told)
        assert set(told) == self.model.tell(self.clock())
        self.told += told

    def pick(self, data, *, is_open: bool = False):
        leases = [lease for lease in self.model.leases.values() if lease.is_open or not is_open]
        return data.draw(st.sampled_from(leases), label="lease")

    def close(self) -> None:
        assert isinstance(self.store, RedisStore)
        assert self.client is not None
        self.ask(self.store.aclose())
        self.ask(self.client.aclose())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.clock.advance(100.0)
            self.model.expire(self.clock())
            waiting = [charge for _, charge in self.model.to_tell.values()]
            self.hear(self.ask(self.store.reap("acme")))
            assert set(waiting) <= set(self.told)
            assert all(item.held == 0 for item in self.ask(self.store.standings(LIMITS)))
            if self.client is not None:
                self.close()
        self.loop.close()


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_any_interleaving_agrees_with_the_model(server: RedisServer, kind: str) -> None:
    def in_memory(clock: ManualClock, prefix: str) -> Opened:
        return MemoryStore(clock), None

    def in_redis(clock: ManualClock, prefix: str) -> Opened:
        client = Redis.from_url(server.url)
        return RedisStore(client, prefix, clock=clock, **PATIENT), client

    class Machine(Interleavings):
        open_store = staticmethod({"memory": in_memory, "redis": in_redis}[kind])

    examples = {"memory": 150, "redis": 40}[kind]
    Machine.TestCase.settings = settings(max_examples=examples, stateful_step_count=40)
    Machine.TestCase().runTest()
