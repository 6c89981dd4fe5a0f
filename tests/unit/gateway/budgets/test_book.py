import asyncio

import pytest
from sqlalchemy import Engine

from gateway.access.keys import KeyStore
from gateway.budgets import book as book_module
from gateway.budgets.book import BudgetBook, BudgetRules
from gateway.budgets.definitions import BudgetDefinitions, scope_digest
from tests.fakes.budgets import budget
from tests.fakes.patience import PATIENCE_S


@pytest.fixture
def book(engine: Engine):
    book = BudgetBook(BudgetDefinitions(engine), poll_s=0.01, read_timeout_s=PATIENCE_S)
    yield book
    book.close()


def caps(book: BudgetBook, *caller) -> dict[tuple[str, str, str], int]:
    return {
        (each.scope.kind, each.measure, each.window): each.cap
        for each in book.limits(*caller).limits
    }


async def test_without_definitions_nothing_is_limited(book):
    assert await book.refresh()

    assert book.limits("blue", "k1", "alice", "talk").limits == ()
    assert book.turn_limits("blue") == ()
    assert book.limited_kinds("blue") == frozenset()


async def test_a_user_never_seen_before_has_the_default_budget(engine, book):
    budget(engine, 100, scope="user")
    await book.refresh()

    (limit,) = book.limits("blue", "k1", "never seen", None).limits

    assert (limit.scope.kind, limit.scope.id, limit.cap) == ("user", "never seen", 100)
    assert book.limits("blue", "k1", None, None).limits == ()
    assert book.limits("green", "k1", "never seen", None).limits == ()


async def test_the_narrowest_definition_of_a_measure_and_window_counts(engine, book):
    budget(engine, 1, team_id=None, scope="user")
    budget(engine, 2, scope="user")
    budget(engine, 3, scope="user", scope_id="alice")
    budget(engine, 4, team_id=None, scope="user", measure="tokens")
    await book.refresh()
    alice, bob = (scope_digest("blue", "user", name) for name in ("alice", "bob"))

    nusd, tokens = ("user", "nusd", "total"), ("user", "tokens", "total")
    assert caps(book, "blue", "k", alice, None) == {nusd: 3, tokens: 4}
    assert caps(book, "blue", "k", bob, None) == {nusd: 2, tokens: 4}
    assert caps(book, "green", "k", bob, None) == {nusd: 1, tokens: 4}


async def test_a_request_is_bound_in_every_scope_it_belongs_to(engine, book):
    key = KeyStore(engine).create_key("blue", "k").info.id
    budget(engine, 1, window="month")
    budget(engine, 2, scope="key", scope_id=key, measure="concurrent", window="now")
    budget(engine, 3, scope="user", measure="requests", window="minute")
    budget(engine, 4, scope="conversation", measure="tokens")
    budget(engine, 5, scope="turn", measure="tokens")
    await book.refresh()

    assert caps(book, "blue", key, "u", "c") == {
        ("team", "nusd", "month"): 1,
        ("key", "concurrent", "now"): 2,
        ("user", "requests", "minute"): 3,
        ("conversation", "tokens", "total"): 4,
    }
    assert [limit.cap for limit in book.turn_limits("blue")] == [5]
    assert book.limited_kinds("blue") == {"team", "key", "user", "conversation", "turn"}
    assert book.limits("blue", key, "u", "c") is book.limits("blue", key, "u", "c")


async def test_changes_count_after_the_next_read(engine, book):
    made = budget(engine, 1)
    await book.refresh()
    assert caps(book, "blue", "k", None, None) == {("team", "nusd", "total"): 1}

    BudgetDefinitions(engine).set_cap(made.id, 9)
    await book.refresh()
    assert caps(book, "blue", "k", None, None) == {("team", "nusd", "total"): 9}

    BudgetDefinitions(engine).delete(made.id)
    await book.refresh()
    assert book.limits("blue", "k", None, None).limits == ()
    assert book.limited_kinds("blue") == frozenset()


async def test_a_watching_book_follows_by_itself(engine, book):
    watching = asyncio.create_task(book.watch())
    budget(engine, 1)

    async with asyncio.timeout(PATIENCE_S):
        while not book.limits("blue", "k", None, None).limits:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_many_definitions_are_read_in_pages(engine, book, monkeypatch):
    monkeypatch.setattr(book_module, "PAGE", 2)
    for number in range(5):
        budget(engine, number, scope="user", scope_id=str(number))

    await book.refresh()

    last = scope_digest("blue", "user", "4")
    assert caps(book, "blue", "k", last, None) == {("user", "nusd", "total"): 4}


async def test_without_a_database_the_last_known_definitions_hold(engine, book, caplog):
    budget(engine, 1)
    await book.refresh()
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE budgets RENAME TO gone")

    assert not await book.refresh()
    assert not await book.refresh()

    assert caps(book, "blue", "k", None, None) == {("team", "nusd", "total"): 1}
    assert (book.failed_reads, book.is_stale) == (2, True)
    assert caplog.text.count("the last known ones stay in force") == 1
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO budgets")
    assert await book.refresh()
    assert not book.is_stale


async def test_memory_is_bounded_however_many_users_come(engine, book, monkeypatch):
    monkeypatch.setattr(book_module, "MAX_KNOWN_CALLERS", 3)
    budget(engine, 1, scope="user")
    await book.refresh()

    for number in range(10):
        assert len(book.limits("blue", "k", str(number), None).limits) == 1

    assert len(book._limits) <= 3


def test_dropping_what_is_not_there_changes_nothing(engine):
    rules = BudgetRules()
    made = budget(engine, 1)

    rules.drop(made)
    rules.put(made)
    rules.put(made)
    rules.drop(made)

    assert rules.is_empty
