from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select

from budget.ledger.settlements import Lease, SettlementRecord
from budget.ledger.types import Limit
from gateway.budgets.folding import MIN_AGE_DAYS, fold
from gateway.budgets.journal import charged, read_definitions
from gateway.evaluation_log.row_layout import to_row
from gateway.storage.database import writing
from gateway.storage.rows import insert_rows
from migrations.tables import SETTLEMENTS
from tests.fakes.budgets import NOON_UNIX_S, budget, migrated

DAY_S = 86_400
CODES = ["tna", "tta", "tra", "tnm", "kna", "kti", "una", "ura", "cna", "cta", "cc0"]


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = migrated(database_url)
    yield engine
    engine.dispose()


def row(number: int, codes: str, *, days_ago: float = 40, **changes) -> SettlementRecord:
    lease = Lease(
        request_id=f"req_{number}",
        team_id="blue",
        key_id=f"k{number % 2}",
        user_digest=f"u{number % 3}",
        conversation_digest=f"c{number % 5}",
        limits=f" {codes} ",
        reserved_at_unix_s=NOON_UNIX_S - days_ago * DAY_S,
    )
    record = SettlementRecord(
        lease, "m", 90, 9, 10, 5, is_estimated=False, outcome="answered", settled_at_unix_s=1.0
    )
    return replace(record, **changes)


def write(engine: Engine, *records: SettlementRecord) -> None:
    with writing(engine) as connection:
        insert_rows(connection, [to_row(record) for record in records])


def define_all(engine: Engine) -> None:
    for scope in ("team", "key", "user", "conversation"):
        for measure in ("nusd", "tokens", "requests"):
            for window in ("month", "total"):
                budget(engine, 9, scope=scope, measure=measure, window=window)


def sums(engine: Engine) -> dict[Limit, int]:
    found = charged(engine, read_definitions(engine), NOON_UNIX_S)
    return {entry.limit: entry.spent for entry in found if entry.spent}


def fold_all(engine: Engine, *, now_s: float = NOON_UNIX_S, max_rows: int = 1000) -> int:
    before_s = now_s - MIN_AGE_DAYS * DAY_S
    folded = 0
    while count := fold(engine, before_s, now_s, max_rows):
        folded += count
    return folded


def rows_left(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(SETTLEMENTS)) or 0


def test_one_row_is_left_of_each_total(engine):
    define_all(engine)
    write(engine, *(row(number, "tna tnm kna kta kti cna") for number in range(40)))
    before = sums(engine)

    assert fold_all(engine) == 40

    assert sums(engine) == before
    assert rows_left(engine) == 1 + 2 + 2 + 5


def test_rows_that_a_window_may_still_count_stay_as_they_are(engine):
    define_all(engine)
    write(engine, row(1, "tna", days_ago=MIN_AGE_DAYS - 1), row(2, "tna"))

    assert fold_all(engine) == 1

    with engine.connect() as connection:
        outcomes = set(connection.scalars(select(SETTLEMENTS.c.outcome)))
    assert outcomes == {"answered", "opening"}


def test_rows_that_no_total_counts_are_dropped(engine):
    write(engine, row(1, "tnm kti"), row(2, ""))

    assert fold_all(engine) == 2

    assert rows_left(engine) == 0


def test_a_reset_is_folded_as_what_it_takes_back(engine):
    define_all(engine)
    write(engine, row(1, "tna tra"), row(2, "tna", charged_nusd=-10, charged_requests=0))

    fold_all(engine)

    assert [*sums(engine).values()] == [1]


def test_openings_are_folded_into_later_ones(engine):
    define_all(engine)
    write(engine, row(1, "tna kna"))
    fold_all(engine)
    write(engine, row(2, "tna kna"), row(3, "tna kna"))
    before = sums(engine)

    fold_all(engine)
    fold_all(engine, now_s=NOON_UNIX_S + 40 * DAY_S)

    assert sums(engine) == before
    assert rows_left(engine) == 3


@given(
    codes=st.lists(st.sets(st.sampled_from(CODES)), min_size=1, max_size=12),
    ages=st.lists(st.sampled_from([0.0, 10.0, 33.0, 90.0]), min_size=12, max_size=12),
    amounts=st.lists(st.integers(-50, 2**53), min_size=12, max_size=12),
    max_rows=st.integers(1, 5),
)
@settings(max_examples=15)
def test_whatever_is_folded_the_journal_adds_up_to_the_same(codes, ages, amounts, max_rows):
    with TemporaryDirectory() as directory:
        engine = migrated(f"sqlite:///{Path(directory) / 'waypost.db'}")
        define_all(engine)
        for number, (of, age, amount) in enumerate(zip(codes, ages, amounts, strict=False)):
            charge = {"charged_nusd": amount, "charged_tokens": amount % 7}
            write(engine, row(number, " ".join(sorted(of)), days_ago=age, **charge))
        before = sums(engine)

        fold_all(engine, max_rows=max_rows)

        assert sums(engine) == before
        engine.dispose()
