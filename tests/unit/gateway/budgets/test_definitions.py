from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine

from budget.ledger.types import Scope
from gateway.access.keys import KeyStore
from gateway.budgets.definitions import MAX_CAP, BudgetDefinitions, scope_digest, scope_of
from gateway.errors import Conflict, InvalidRequest, NotFound
from tests.fakes.budgets import budget, migrated


@pytest.fixture
def engine(database_url: str):
    engine = migrated(database_url)
    yield engine
    engine.dispose()


def test_a_budget_lives_from_creation_to_deletion(engine: Engine):
    store = BudgetDefinitions(engine)
    made = budget(engine, 5, scope="user", scope_id="alice", window="month")

    assert store.budget(made.id) == made
    assert store.set_cap(made.id, 9).cap == 9
    assert store.delete(made.id).cap == 9
    with pytest.raises(NotFound, match="waypost budgets list"):
        store.budget(made.id)


def test_what_is_capped_already_is_raised_not_created(engine: Engine):
    budget(engine, 5)

    with pytest.raises(Conflict, match="change its cap instead"):
        budget(engine, 6)


def test_a_deleted_budget_can_be_created_again(engine: Engine):
    made = budget(engine, 5)
    BudgetDefinitions(engine).delete(made.id)

    again = budget(engine, 7)

    assert again.id == made.id
    assert BudgetDefinitions(engine).budgets() == [again]


def test_budgets_are_listed_in_pages(engine: Engine):
    KeyStore(engine).create_team("green")
    made = {budget(engine, 1, scope="user", scope_id=str(n)).id for n in range(3)}
    budget(engine, 1, team_id="green", scope="user", scope_id="0")
    budget(engine, 1)
    store = BudgetDefinitions(engine)

    first = store.budgets(team_id="blue", scope="user", limit=2)
    rest = store.budgets(team_id="blue", scope="user", limit=2, after=first[-1].id)

    assert {each.id for each in first + rest} == made
    assert len(store.budgets()) == 5


def test_changes_come_in_order_with_deletions(engine: Engine):
    store = BudgetDefinitions(engine)
    one, two = budget(engine, 1), budget(engine, 2, measure="tokens")
    store.set_cap(one.id, 3)
    store.delete(two.id)

    changes = store.changes(0, 10)

    assert [(each.definition.cap, each.is_deleted) for each in changes] == [(3, False), (2, True)]
    assert store.changes(changes[0].revision, 10) == changes[1:]
    assert store.changes(0, 1) == changes[:1]


def test_concurrent_operators_get_different_revisions(engine: Engine):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: budget(engine, n, scope="user", scope_id=str(n)), range(12)))

    assert [each.revision for each in BudgetDefinitions(engine).changes(0, 99)] == [*range(1, 13)]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"scope": "planet"}, "scope"),
        ({"measure": "joules"}, "measure"),
        ({"window": "decade"}, "window"),
        ({"cap": -1}, "cap"),
        ({"cap": MAX_CAP + 1}, "cap"),
        ({"measure": "concurrent"}, "window"),
        ({"window": "now"}, "window"),
        ({"scope": "turn", "measure": "requests"}, "scope"),
        ({"scope": "turn", "window": "day"}, "scope"),
        ({"scope_id": "blue"}, "scope_id"),
        ({"scope": "turn", "scope_id": "x"}, "scope_id"),
        ({"scope": "user", "scope_id": ""}, "scope_id"),
        ({"scope": "user", "scope_id": "x" * 513}, "scope_id"),
        ({"team_id": None, "scope": "user", "scope_id": "alice"}, "team_id"),
    ],
    ids=str,
)
def test_nonsense_is_refused_with_the_field_at_fault(tmp_path: Path, changes, param):
    engine = migrated(f"sqlite:///{tmp_path / 'w.db'}")

    with pytest.raises(InvalidRequest) as refused:
        budget(engine, **({"cap": 1} | changes))

    assert refused.value.param == param
    engine.dispose()


def test_a_team_or_key_that_is_not_there_cannot_be_capped(engine: Engine):
    keys = KeyStore(engine)
    keys.create_team("green")
    key = keys.create_key("green", "k").info

    with pytest.raises(NotFound, match="no team 'red'"):
        budget(engine, 1, team_id="red")
    with pytest.raises(NotFound, match="'blue' has no key"):
        budget(engine, 1, scope="key", scope_id=key.id)
    budget(engine, 1, team_id="green", scope="key", scope_id=key.id)


def test_only_a_budget_of_one_scope_has_one_counter(engine: Engine):
    assert budget(engine, 1, team_id=None).counted_scope() is None
    assert budget(engine, 1, scope="user").counted_scope() is None
    assert budget(engine, 1).counted_scope() == Scope("blue", "team")
    named = budget(engine, 1, scope="user", scope_id="alice")
    assert named.counted_scope() == scope_of("blue", "user", "alice")


def test_the_same_name_under_two_teams_is_two_scopes():
    assert scope_of("blue", "user", "alice") != scope_of("green", "user", "alice")
    assert scope_digest("blue", "user", "a") != scope_digest("blue", "conversation", "a")
    assert "alice" not in scope_of("blue", "user", "alice").id
    assert scope_of("blue", "key", "abc").id == "abc"
    assert len(scope_digest("blue", "user", "\ud800")) == 32
