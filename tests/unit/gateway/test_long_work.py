import asyncio
import threading

from gateway.long_work import LONG_BYTES, LongWork


async def test_what_is_short_is_read_at_once() -> None:
    assert await LongWork().read(LONG_BYTES, threading.get_ident) == threading.get_ident()


async def test_what_is_long_is_read_in_a_thread() -> None:
    assert await LongWork().read(LONG_BYTES + 1, threading.get_ident) != threading.get_ident()


async def test_only_one_long_work_is_done_at_a_time() -> None:
    long_work, at_once, most = LongWork(), 0, 0
    has_begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        has_begun.set()
        may_end.wait()
        at_once -= 1

    works = [asyncio.create_task(long_work.aside(work)) for _ in range(3)]
    await asyncio.to_thread(has_begun.wait)
    may_end.set()
    await asyncio.gather(*works)
    assert most == 1


async def test_work_that_fails_lets_the_next_one_begin() -> None:
    long_work = LongWork()
    failed, done = await asyncio.gather(
        long_work.aside(int, "no number"), long_work.aside(int, "1"), return_exceptions=True
    )
    assert isinstance(failed, ValueError)
    assert done == 1
