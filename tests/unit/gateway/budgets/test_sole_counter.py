import logging
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from gateway.budgets.book import BudgetBook
from gateway.budgets.definitions import BudgetDefinitions
from gateway.budgets.sole_counter import LEASE, SoleCounter
from gateway.storage.database import writing
from gateway.storage.lease import Lease, name_this_process
from tests.fakes.budgets import budget

OTHER = "web-2/17/2026-12-01T05:20:11.000000Z"


@pytest.fixture
async def counter(engine: Engine) -> Callable[[str], SoleCounter]:
    budget(engine, 1)
    book = BudgetBook(BudgetDefinitions(engine))
    await book.refresh()
    book.close()
    return lambda holder: SoleCounter(Lease(engine, LEASE, holder), book)


async def test_the_second_of_two_says_who_the_first_is_until_that_has_stopped(counter, caplog):
    first, second = counter(OTHER), counter(name_this_process())
    for each in (first, second, second):
        assert await each.refresh()

    assert first.problem is None
    assert second.problem is not None
    assert "process 17 on host web-2, since 2026-12-01 05:20:11 UTC" in second.problem
    assert 'budgets.store = "redis"' in second.problem
    await first.aclose()
    await second.refresh()

    assert second.problem is None
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]


async def test_nobody_is_told_while_there_is_no_budget(engine):
    book = BudgetBook(BudgetDefinitions(engine))
    book.close()
    for holder in (OTHER, name_this_process()):
        await (counter := SoleCounter(Lease(engine, LEASE, holder), book)).refresh()

    assert counter.problem is None


async def test_a_start_follows_its_killed_predecessor_at_once(counter):
    mine = name_this_process()
    await counter(f"{mine.rpartition('/')[0]}/2026-12-01T05:20:11.000000Z").refresh()
    await (started := counter(mine)).refresh()

    assert started.problem is None


async def test_of_two_that_cannot_be_told_apart_one_says_so(counter):
    host_and_number = name_this_process().rpartition("/")[0]  # process 1 of two containers
    pair = [counter(f"{host_and_number}/{since}.0Z") for since in ("05:20", "05:21")]
    for each in (*pair, *pair):
        await each.refresh()

    assert [each.problem is None for each in pair] == [False, True]


async def test_what_was_known_holds_while_the_database_does_not_answer(engine, counter, caplog):
    await counter(OTHER).refresh()
    await (second := counter(name_this_process())).refresh()
    with writing(engine) as connection:
        connection.execute(text("DROP TABLE learning_lease"))

    assert not await second.refresh()
    assert second.problem is not None
    with caplog.at_level(logging.INFO):
        await second.aclose()
    assert "runs out by itself" in caplog.text
