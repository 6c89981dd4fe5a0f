from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations

import pytest
from sqlalchemy import Engine, select

from budget.ledger.memory import MemoryStore
from budget.ledger.settlements import (
    EXPIRED,
    RECOVERED,
    RESET,
    Lease,
    SettlementRecord,
    limit_codes,
)
from budget.ledger.types import Limit, Scope
from gateway.access.keys import KeyStore
from gateway.budgets import journal
from gateway.budgets.book import BudgetRules
from gateway.budgets.definitions import scope_digest
from gateway.evaluation_log.row_layout import to_row
from gateway.storage.rows import from_payload, to_payload
from migrations.tables import SETTLEMENTS
from tests.fakes.budgets import NOON_UNIX_S, Clock, budget, migrated, write

DAY_S = 86_400
ALICE = scope_digest("blue", "user", "alice")
BOB = scope_digest("blue", "user", "bob")


@pytest.fixture
def engine(database_url: str):
    engine = migrated(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(Clock())


def limit(kind="team", measure="nusd", window="total", scope_id="") -> Limit:
    return Limit(Scope("blue", kind, scope_id), measure, window, 1000)


def row(number: int, *limits: Limit, days_ago: float = 0, user=None, **changes) -> SettlementRecord:
    lease = Lease(
        request_id=f"req_{number}",
        team_id="blue",
        key_id="k1",
        user_digest=user,
        conversation_digest=None,
        limits=limit_codes(limits or (limit(),)),
        reserved_at_unix_s=NOON_UNIX_S - days_ago * DAY_S,
    )
    record = SettlementRecord(
        lease,
        "m",
        90,
        9,
        10,
        5,
        is_estimated=False,
        outcome="answered",
        settled_at_unix_s=1.0,
        charged_output_tokens=2,
    )
    return replace(record, **changes)


def outcomes(engine: Engine) -> dict[str, tuple[str, int]]:
    with engine.connect() as connection:
        rows = connection.execute(select(SETTLEMENTS)).mappings().all()
    return {each["request_id"]: (each["outcome"], each["charged_nusd"]) for each in rows}


def sums(engine: Engine) -> dict[tuple[str, str, str, str], int]:
    found = journal.charged(engine, journal.read_definitions(engine), NOON_UNIX_S)
    return {
        (e.limit.scope.kind, e.limit.scope.id, e.limit.measure, e.limit.window): e.spent
        for e in found
    }


async def test_a_settlement_is_stored_as_it_was_recorded(engine, tmp_path):
    await write(engine, tmp_path / "spool", row(1, user=ALICE, is_estimated=True))

    with engine.connect() as connection:
        stored = dict(connection.execute(select(SETTLEMENTS)).mappings().one())
    assert stored == {
        "request_id": "req_1",
        "team_id": "blue",
        "key_id": "k1",
        "user_digest": ALICE,
        "conversation_digest": None,
        "model": "m",
        "limits": " tna ",
        "held_nusd": 90,
        "held_tokens": 9,
        "charged_nusd": 10,
        "charged_tokens": 5,
        "charged_output_tokens": 2,
        "charged_requests": 1,
        "is_estimated": True,
        "outcome": "answered",
        "reserved_at": datetime.fromtimestamp(NOON_UNIX_S, UTC),
        "settled_at": datetime.fromtimestamp(1, UTC),
    }


def test_a_settlement_survives_the_spool():
    stored = to_row(row(1, user=ALICE))

    assert from_payload(to_payload(stored)) == stored


@pytest.mark.parametrize("order", [*permutations(["answered", RECOVERED, EXPIRED])])
@pytest.mark.parametrize("is_one_batch", [True, False])
async def test_the_gateways_own_row_replaces_what_others_wrote_whichever_comes_first(
    engine, tmp_path, order, is_one_batch
):
    rows = [row(1, outcome=outcome, charged_nusd=len(outcome)) for outcome in order]

    for batch in [rows] if is_one_batch else [[each] for each in rows]:
        await write(engine, tmp_path / "spool", *batch)

    assert outcomes(engine) == {"req_1": ("answered", 8)}


@pytest.mark.parametrize("order", [*permutations([RECOVERED, EXPIRED])])
async def test_what_was_really_used_replaces_a_full_charge(engine, tmp_path, order):
    for outcome in order:
        await write(engine, tmp_path / "spool", row(1, outcome=outcome, charged_nusd=len(outcome)))

    assert outcomes(engine) == {"req_1": (RECOVERED, 9)}


async def test_a_settlement_that_arrives_twice_counts_once(engine, tmp_path):
    await write(engine, tmp_path / "spool", row(1), row(1, charged_nusd=99))
    await write(engine, tmp_path / "spool", row(2, outcome=EXPIRED), row(2, outcome=EXPIRED))

    assert outcomes(engine) == {"req_1": ("answered", 10), "req_2": (EXPIRED, 10)}


async def test_sums_are_of_the_current_window(engine, tmp_path):
    for window in ("day", "week", "month", "total"):
        budget(engine, 1000, window=window)
    every = [limit(window=window) for window in ("day", "week", "month", "total")]
    await write(
        engine,
        tmp_path / "spool",
        *(row(n, *every, days_ago=days) for n, days in enumerate((0, 1, 6.4, 6.6, 10, 40))),
    )

    # Noon of Sunday the 22nd: the week began six and a half days ago.
    assert {window: spent for (_, _, _, window), spent in sums(engine).items()} == {
        "day": 10,
        "week": 30,
        "month": 50,
        "total": 60,
    }


async def test_each_scope_and_measure_has_its_own_sum(engine, tmp_path):
    budget(engine, 1, scope="user", measure="tokens")
    budget(engine, 1, scope="user", scope_id="carol", measure="tokens")
    budget(engine, 1, scope="key", measure="requests", window="day")
    budget(engine, 1, measure="concurrent", window="now")
    budget(engine, 1, scope="turn")
    charged_to = (limit("user", "tokens"), limit("key", "requests", "day"))
    await write(
        engine,
        tmp_path / "spool",
        *(row(n, *charged_to, user=user) for n, user in enumerate((ALICE, ALICE, BOB))),
        row(9, limit("key", "requests", "day")),
    )

    assert sums(engine) == {
        ("user", ALICE, "tokens", "total"): 10,
        ("user", BOB, "tokens", "total"): 5,
        ("user", scope_digest("blue", "user", "carol"), "tokens", "total"): 0,
        ("key", "k1", "requests", "day"): 4,
    }


async def test_charges_from_before_a_limit_existed_do_not_count(engine, tmp_path):
    await write(engine, tmp_path / "spool", row(1, limit(measure="tokens")), row(2))
    budget(engine, 1000)

    assert sums(engine) == {("team", "", "nusd", "total"): 10}


async def test_counters_are_rebuilt_and_then_agree(engine, tmp_path, store):
    budget(engine, 1000)
    budget(engine, 1000, scope="user")
    await write(engine, tmp_path / "spool", row(1), row(2, limit(), limit("user"), user=ALICE))

    found = await journal.verify(engine, store, NOON_UNIX_S)
    assert {(each.limit.scope.kind, each.counted, each.journaled) for each in found} == {
        ("team", 0, 20),
        ("user", 0, 10),
    }

    assert await journal.rebuild(engine, store, NOON_UNIX_S) == 2

    assert await journal.verify(engine, store, NOON_UNIX_S) == []
    (standing,) = await store.standings([limit()])
    assert standing.spent == 20


async def test_a_reset_holds_after_a_rebuild(engine, tmp_path, store):
    made = budget(engine, 1000)
    await write(engine, tmp_path / "spool", row(1))
    await journal.rebuild(engine, store, NOON_UNIX_S)
    (of_team,) = BudgetRules([made]).limits(Scope("blue", "team"))

    record = await journal.reset(engine, store, of_team, NOON_UNIX_S)

    assert (record.outcome, record.charged_nusd) == (RESET, -10)
    assert await journal.verify(engine, store, NOON_UNIX_S) == []
    await journal.rebuild(engine, store, NOON_UNIX_S)
    (standing,) = await store.standings([limit()])
    assert standing.spent == 0


@pytest.mark.parametrize(
    ("kind", "measure"), [("key", "tokens"), ("user", "requests"), ("conversation", "nusd")]
)
async def test_a_reset_is_journaled_under_its_own_scope(tmp_path, store, kind, measure):
    engine = migrated(f"sqlite:///{tmp_path / 'w.db'}")
    budget(engine, 1000, scope=kind, measure=measure)
    one = limit(kind, measure, scope_id="someone")
    await store.overwrite(one, 40)

    await journal.reset(engine, store, one, NOON_UNIX_S)

    assert sums(engine) == {(kind, "someone", measure, "total"): -40}
    assert await journal.verify(engine, store, NOON_UNIX_S) == []
    engine.dispose()


def test_teams_that_may_have_leases_are_those_with_budgets(engine):
    KeyStore(engine).create_team("green")
    assert journal.capped_teams(engine) == []
    budget(engine, 1)
    assert journal.capped_teams(engine) == ["blue"]
    budget(engine, 1, team_id=None)
    assert journal.capped_teams(engine) == ["blue", "green"]
