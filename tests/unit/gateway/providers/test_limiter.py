import asyncio
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProviderUnavailable
from gateway.providers.limiter import Limiter

TEAMS = ("a", "b", "c")


async def test_refuses_when_no_slot_comes_free_in_time() -> None:
    limiter = Limiter("acme", slots=1, wait_s=0.0)
    async with limiter.place("a"):
        with pytest.raises(ProviderUnavailable) as caught:
            async with limiter.place("a"):
                pass
    assert caught.value.retry_after_s == 1.0


async def test_a_waiting_call_gets_the_slot_that_comes_free() -> None:
    limiter = Limiter("acme", slots=1, wait_s=5.0)

    async def second() -> str:
        async with limiter.place("a"):
            return "served"

    async with limiter.place("a"):
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0)
    assert await waiting == "served"


async def test_refuses_at_once_when_too_many_wait() -> None:
    limiter = Limiter("acme", slots=1, wait_s=5.0)

    async def second() -> None:
        async with limiter.place("a"):
            pass

    async with limiter.place("a"):
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0)
        with pytest.raises(ProviderUnavailable):
            async with limiter.place("a"):
                pass
    await waiting


async def test_a_cancelled_wait_leaves_no_trace() -> None:
    limiter = Limiter("acme", slots=1, wait_s=5.0)

    async def second() -> None:
        async with limiter.place("a"):
            pass

    async with limiter.place("a"):
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with limiter.place("a"):
        pass


class Callers:
    """Callers of one limiter that keep their places until they are told to leave."""

    def __init__(self, slots: int) -> None:
        self.limiter = Limiter("acme", slots, wait_s=60.0)
        self.served: list[tuple[str, int]] = []
        self.refused: list[tuple[str, int]] = []
        self.tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self.inside: dict[tuple[str, int], asyncio.Event] = {}

    async def come(self, team_id: str, *, settles: bool = True) -> None:
        caller = (team_id, len(self.tasks))
        self.tasks[caller] = asyncio.create_task(self._call(caller))
        if settles:
            await settle()

    async def _call(self, caller: tuple[str, int]) -> None:
        try:
            async with self.limiter.place(caller[0]):
                self.served.append(caller)
                self.inside[caller] = asyncio.Event()
                try:
                    await self.inside[caller].wait()
                finally:
                    del self.inside[caller]
        except ProviderUnavailable:
            self.refused.append(caller)

    def finish_one(self) -> None:
        for done in self.inside.values():
            if not done.is_set():
                done.set()
                return

    @property
    def left(self) -> list[asyncio.Task[None]]:
        return [task for task in self.tasks.values() if not task.done()]


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_a_team_with_a_hundred_times_the_load_is_served_in_turn_with_another() -> None:
    callers = Callers(100)
    for _ in range(200):
        await callers.come("large")
    await callers.come("small")
    await callers.come("small")
    assert not [caller for caller in callers.refused if caller[0] == "small"]
    for _ in range(4):
        callers.finish_one()
        await settle()
    assert [team for team, _ in callers.served[100:]] == ["large", "small", "large", "small"]
    for task in callers.left:
        task.cancel()
    await settle()


async def test_the_last_of_the_longest_line_makes_room_for_a_team_with_a_shorter_one() -> None:
    callers = Callers(4)
    for team in "aaaa" + "aaaa" + "bbbb":
        await callers.come(team)
    assert callers.refused == [("a", 7), ("a", 6), ("b", 10), ("b", 11)]
    for task in callers.left:
        task.cancel()
    await settle()


async def test_a_team_keeps_its_turn_when_its_first_in_line_leaves() -> None:
    callers = Callers(5)
    for team in "aaaaa" + "bbcc":
        await callers.come(team)
    callers.tasks["b", 5].cancel()
    callers.finish_one()  # an event that is read in the same turn of the loop
    await settle()
    assert callers.served[-1] == ("b", 6)
    for task in callers.left:
        task.cancel()
    await settle()


steps = st.lists(
    st.tuples(
        st.sampled_from(["come", "come", "finish", "cancel"]),
        st.integers(0, 30),
        st.booleans(),
    ),
    max_size=60,
)


@given(st.integers(1, 4), steps)
def test_no_place_is_lost_or_given_twice_whoever_leaves_when(
    slots: int, taken: list[tuple[str, int, bool]]
) -> None:
    async def tried() -> None:
        callers = Callers(slots)
        limiter = callers.limiter
        for step, number, settles in taken:
            if step == "come":
                await callers.come(TEAMS[number % 3], settles=settles)
            elif step == "finish":
                callers.finish_one()
            elif callers.left:
                callers.left[number % len(callers.left)].cancel()
            if settles:
                await settle()
                assert limiter.in_flight == len(callers.inside)
                assert not limiter.waiting or limiter.in_flight == slots
            assert limiter.in_flight <= slots
            assert len(callers.inside) <= slots
            assert limiter.waiting <= slots
        for team in TEAMS:
            assert all(a < b for a, b in pairwise(n for t, n in callers.served if t == team))
        for task in callers.left:
            task.cancel()
        await settle()
        assert (limiter.in_flight, limiter.waiting) == (0, 0)

    asyncio.run(tried())


@given(st.integers(2, 12), st.lists(st.sampled_from(TEAMS), max_size=40))
def test_teams_that_wait_throughout_are_served_alike_within_one_call(
    slots: int, came: list[str]
) -> None:
    async def tried() -> None:
        callers = Callers(slots)
        for _ in range(slots):
            await callers.come("first")
        for team in came:
            await callers.come(team)
        waiting = Counter(came)
        waiting.subtract(team for team, _ in callers.refused)
        n_rounds = min((n for n in waiting.values() if n), default=0)
        n_teams = sum(n > 0 for n in waiting.values())
        for n in range(1, n_rounds * n_teams + 1):
            callers.finish_one()
            await settle()
            served = Counter(team for team, _ in callers.served[slots:])
            counts = [served[team] for team in waiting if waiting[team] > 0]
            assert sum(counts) == n
            assert max(counts) - min(counts) <= 1
        for task in callers.left:
            task.cancel()
        await settle()

    asyncio.run(tried())
