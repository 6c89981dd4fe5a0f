import asyncio
import gc
import tracemalloc
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson
import pytest

from budget.errors import ShareExceeded
from budget.in_flight import InFlight
from gateway.endpoints.asgi import ClientLeft, LeavingClient, memory_of, read_body
from gateway.errors import BodyTooLarge
from gateway.long_work import LONG_BYTES, LongWork

read = partial(read_body, long_work=LongWork())


def receiver(*messages: dict[str, Any]):
    pending = list(messages)

    async def receive() -> dict[str, Any]:
        if pending:
            return pending.pop(0)
        return await asyncio.Future()

    return receive


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def part(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


LEAVES = {"type": "http.disconnect"}


@pytest.fixture
def memory() -> InFlight:
    return InFlight(1000, 1000)


async def test_joins_the_parts_of_a_body(memory) -> None:
    receive = receiver(part(b"a", more=True), part(b"b", more=False))
    assert await read({}, receive, 10, memory.hold("key")) == b"ab"


async def test_joins_a_long_body_in_a_thread() -> None:
    half = b"x" * LONG_BYTES
    receive = receiver(part(half, more=True), part(half, more=False))
    memory = InFlight(10 * LONG_BYTES, 10 * LONG_BYTES)
    assert await read({}, receive, 2 * LONG_BYTES, memory.hold("key")) == 2 * half


async def test_refuses_a_body_that_says_it_is_too_long_before_reading_it(memory) -> None:
    with pytest.raises(BodyTooLarge):
        await read({b"content-length": b"11"}, receiver(), 10, memory.hold("key"))


async def test_refuses_a_body_that_turns_out_too_long(memory) -> None:
    receive = receiver(part(b"x" * 6, more=True), part(b"x" * 6, more=True))
    with pytest.raises(BodyTooLarge):
        await read({}, receive, 10, memory.hold("key"))


async def test_notices_a_caller_that_leaves_while_sending(memory) -> None:
    with pytest.raises(ClientLeft):
        await read({}, receiver(part(b"a", more=True), LEAVES), 10, memory.hold("key"))


async def test_refuses_a_body_that_memory_has_no_room_for_before_reading_it(memory) -> None:
    with pytest.raises(ShareExceeded):
        await read({b"content-length": b"251"}, receiver(), 300, memory.hold("key"))


async def test_refuses_a_body_that_outgrows_memory_while_it_is_read(memory) -> None:
    receive = receiver(part(b"x" * 200, more=True), part(b"x" * 51, more=True))
    with memory.hold("key") as held, pytest.raises(ShareExceeded):
        await read({}, receive, 300, held)
    assert memory.held == 0


@pytest.mark.parametrize(
    "value", ["[],", '{"a":1},', "1000,", '"ab",', "[[[[[]]]]],", '{"a":{"a":{"a":{}}}},']
)
def test_memory_of_a_body_covers_what_its_values_take(value) -> None:
    body = f"[{value * 10_000}1]".encode()
    tracemalloc.start()
    parsed = orjson.loads(body)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(parsed) == 10_001
    assert taken < memory_of(body) < 6 * taken


async def test_a_caller_that_leaves_ends_the_work_for_it() -> None:
    with pytest.raises(ClientLeft):
        async with LeavingClient(receiver(LEAVES)):
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_caller_that_stays_disturbs_nothing() -> None:
    async with LeavingClient(receiver()):
        await asyncio.sleep(0)


async def test_watching_a_caller_leaves_no_garbage_behind(without_collector) -> None:
    watch = LeavingClient(receiver())
    async with watch:
        await asyncio.sleep(0)
    left = weakref.ref(watch)
    del watch
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert left() is None


async def test_a_cancellation_from_elsewhere_stays_a_cancellation() -> None:
    async def work() -> None:
        async with LeavingClient(receiver()):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
