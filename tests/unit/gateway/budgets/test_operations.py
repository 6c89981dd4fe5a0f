from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from budget.ledger.memory import MemoryStore
from budget.ledger.settlements import Lease, limit_codes
from budget.ledger.types import Hold, Limit, Scope
from gateway.access.keys import KeyStore
from gateway.budgets.definitions import scope_digest, scope_of
from gateway.budgets.operations import BudgetDesk, described
from gateway.errors import InvalidRequest, NotFound
from migrations.tables import SETTLEMENTS
from tests.fakes.budgets import Clock, budget, migrated

USD = 10**9


@pytest.fixture
def engine(tmp_path: Path):
    engine = migrated(f"sqlite:///{tmp_path / 'waypost.db'}")
    KeyStore(engine).create_team("green")
    yield engine
    engine.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(engine: Engine, clock: Clock) -> BudgetDesk:
    return BudgetDesk(engine, MemoryStore(clock), clock)


async def spend(desk: BudgetDesk, limit: Limit, nusd: int, *, number: int = 0, hold=False) -> None:
    """Leave a lease open, which its journal row would follow, or count a charge."""
    scope = limit.scope
    user = scope.id if scope.kind == "user" else None
    lease = Lease(
        f"req_{number}", scope.team_id, "k1", user, None, limit_codes([limit]), desk.clock()
    )
    await desk.store.reserve(Hold(lease.idempotency_key, (limit,), nusd, 0, 0, 0, 0, 60.0))
    if not hold:
        assert isinstance(desk.clock, Clock)
        desk.clock.now_s += 61
        await desk.verify()


def of(kind, name="", team="blue", cap=10 * USD) -> Limit:
    return Limit(scope_of(team, kind, name) if name else Scope(team, kind), "nusd", "total", cap)


def test_a_definition_is_described_in_usd_too(engine):
    described_one = described(budget(engine, USD // 2, scope="user", scope_id="alice"))

    assert described_one["cap_usd"] == 0.5
    assert (described_one["scope_id"], described_one["team_id"]) == ("alice", "blue")
    assert "cap_usd" not in described(budget(engine, 5, measure="tokens"))


async def test_the_usage_of_one_scope_is_its_counter(engine, desk):
    made = budget(engine, 10 * USD)
    await spend(desk, of("team"), USD, hold=True)

    (standing,) = await desk.usage(made.id)

    assert standing == {
        "team_id": "blue",
        "scope": "team",
        "scope_id": None,
        "measure": "nusd",
        "window": "total",
        "cap": 10 * USD,
        "spent": 0,
        "held": USD,
        "remaining": 9 * USD,
        "cap_usd": 10.0,
        "spent_usd": 0.0,
        "held_usd": 1.0,
        "remaining_usd": 9.0,
        "resets_in_s": None,
    }


async def test_of_a_default_those_who_spent_most_come_first(engine, desk):
    everywhere = budget(engine, 10 * USD, team_id=None, scope="user")
    for number, (name, team, nusd) in enumerate(
        [("alice", "blue", 5), ("bob", "blue", 7), ("eve", "green", 6)]
    ):
        await spend(desk, of("user", name, team), nusd, number=number)

    shown = await desk.usage(everywhere.id, limit=2)
    assert [(each["team_id"], each["spent"]) for each in shown] == [("blue", 7), ("green", 6)]
    assert shown[0]["scope_id"] == scope_digest("blue", "user", "bob")
    in_blue = await desk.usage(everywhere.id, team_id="blue")
    assert [each["spent"] for each in in_blue] == [7, 5]
    (alice,) = await desk.usage(everywhere.id, team_id="blue", scope_id="alice")
    assert alice["spent"] == 5
    (newcomer,) = await desk.usage(everywhere.id, team_id="blue", scope_id="newcomer")
    assert (newcomer["spent"], newcomer["cap"]) == (0, 10 * USD)


async def test_a_default_for_every_team_has_a_counter_per_team(engine, desk):
    everywhere = budget(engine, 10 * USD, team_id=None)
    await spend(desk, of("team", team="green"), 6)

    (green,) = await desk.usage(everywhere.id, team_id="green")
    assert green["spent"] == 6
    assert len(await desk.usage(everywhere.id)) == 1


async def test_what_cannot_be_counted_says_so(engine, desk):
    turn = budget(engine, 1, scope="turn")
    at_once = budget(engine, 1, scope="key", measure="concurrent", window="now")
    default = budget(engine, 1, scope="user")

    with pytest.raises(NotFound):
        await desk.usage("bud_none")
    for budget_id in (turn.id, at_once.id):
        with pytest.raises(InvalidRequest):
            await desk.usage(budget_id)
        with pytest.raises(InvalidRequest, match="nothing to reset"):
            await desk.reset(budget_id)
    with pytest.raises(InvalidRequest, match="say whose"):
        await desk.reset(default.id)
    (open_now,) = await desk.usage(at_once.id, scope_id="k1")
    assert open_now["spent"] == 0


async def test_a_reset_counts_from_zero_and_is_journaled(engine, desk):
    made = budget(engine, 10 * USD, scope="user")
    await spend(desk, of("user", "alice"), 7)

    after = await desk.reset(made.id, scope_id="alice")

    assert after["spent"] == 0
    assert (await desk.verify())["differences"] == []
    with engine.connect() as connection:
        rows = connection.execute(select(SETTLEMENTS.c.outcome, SETTLEMENTS.c.charged_nusd)).all()
    assert {tuple(row) for row in rows} == {("expired", 7), ("reset", -7)}


async def test_leases_of_gateways_that_died_are_journaled_before_anything_is_compared(
    engine, desk, clock
):
    budget(engine, 10 * USD)
    for number in range(60):
        await spend(desk, of("team"), 7, number=number, hold=True)
    clock.now_s += 61

    assert await desk.verify() == {"differences": [], "expired_leases": 60}
    assert await desk.verify() == {"differences": [], "expired_leases": 0}
    clock.now_s += 3_600
    assert await desk.store.reap("blue") == ()


async def test_charges_of_gateways_that_died_are_journaled_too(engine, desk, clock):
    budget(engine, 10 * USD)
    await spend(desk, of("team"), 7, hold=True)
    (name,) = desk.store._teams["blue"].leases
    await desk.store.settle("blue", name, 3, 0)
    (difference,) = (await desk.verify())["differences"]
    assert (difference["counted"], difference["journaled"]) == (3, 0)
    clock.now_s += 61

    assert await desk.verify() == {"differences": [], "expired_leases": 0}


async def test_pruning_keeps_what_the_journal_adds_up_to(engine, desk, clock):
    budget(engine, 10 * USD)
    for number in range(3):
        await spend(desk, of("team"), 7, number=number)
    await spend(desk, of("team"), 7, number=3, hold=True)
    clock.now_s += 40 * 86_400

    assert await desk.prune(32) == {"folded_rows": 4, "expired_leases": 1}

    assert (await desk.verify())["differences"] == []
    with engine.connect() as connection:
        rows = connection.execute(select(SETTLEMENTS.c.outcome, SETTLEMENTS.c.charged_nusd)).all()
    assert [tuple(row) for row in rows] == [("opening", 28)]
    assert await desk.prune(32) == {"folded_rows": 0, "expired_leases": 0}


async def test_rows_whose_windows_may_run_are_not_pruned(desk):
    with pytest.raises(InvalidRequest, match="at least 32"):
        await desk.prune(31)


async def test_counters_that_were_lost_are_rebuilt(engine, desk, clock):
    budget(engine, 10 * USD)
    await spend(desk, of("team"), 7)
    fresh = BudgetDesk(engine, MemoryStore(clock), clock)

    (difference,) = (await fresh.verify())["differences"]
    assert (difference["counted"], difference["journaled"]) == (0, 7)
    assert (await fresh.rebuild())["counters"] == 1
    assert (await fresh.verify())["differences"] == []


async def test_a_budget_that_a_narrower_one_replaces_has_no_counter_for_that_scope(engine, desk):
    default = budget(engine, 10 * USD, scope="user", window="day")
    (standing,) = await desk.usage(default.id, scope_id="alice")
    budget(engine, 3 * USD, scope="user", scope_id="alice", window="day")

    (narrower,) = await desk.usage(default.id, scope_id="alice")

    assert (standing["cap"], narrower["cap"]) == (10 * USD, 3 * USD)
    assert standing["resets_in_s"] == 43_200


@pytest.mark.parametrize(
    ("which", "choice", "named"),
    [
        ({}, {"scope_id": "alice"}, "whole team"),
        ({}, {"team_id": "green"}, "of the team 'blue'"),
        ({"scope": "user", "scope_id": "alice"}, {"scope_id": "bob"}, "of the user 'alice'"),
        ({"team_id": None}, {"team_id": "blue", "scope_id": "alice"}, "whole team"),
    ],
)
async def test_a_choice_that_does_not_apply_shows_and_resets_no_other_counter(
    engine, desk, which, choice, named
):
    made = budget(engine, 10 * USD, **which)
    counted = of(which.get("scope", "team"), which.get("scope_id", ""))
    await spend(desk, counted, 5)

    for ask in (desk.usage, desk.reset):
        with pytest.raises(InvalidRequest, match=named):
            await ask(made.id, **choice)
    kept = {"team_id": "blue"} if made.team_id is None else {}
    (standing,) = await desk.usage(made.id, **kept)
    assert standing["spent"] == 5
