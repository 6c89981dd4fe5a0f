"""Where budgets stand, as metrics tell it."""

import pytest
from prometheus_client.core import Metric
from sqlalchemy import Engine

from budget.ledger.types import Hold, Limit
from gateway.access.keys import KeyStore
from gateway.budgets.definitions import BudgetDefinitions, scope_of
from gateway.budgets.headroom import MOST_TOLD, Headroom
from tests.fakes.budgets import Clock, SwitchedStore, budget


class Store(SwitchedStore):
    async def standings(self, limits):
        self._check()
        return await super().standings(limits)


@pytest.fixture
def store() -> Store:
    return Store(Clock())


@pytest.fixture
def headroom(engine: Engine, store: Store) -> Headroom:
    return Headroom(BudgetDefinitions(engine), store)


def figures(headroom: Headroom) -> dict[tuple[str, str], float]:
    """Return cap and use by budget."""
    families: list[Metric] = list(headroom.collect())
    return {
        (sample.name, sample.labels["budget"]): sample.value
        for family in families
        for sample in family.samples
    }


async def test_spent_and_held_are_told_beside_the_cap_in_usd(engine, store, headroom):
    made = budget(engine, 10 * 10**9, window="month")
    limit = Limit(scope_of("blue", "team", ""), "nusd", "month", made.cap)
    for name, nusd in (("r1", 2 * 10**9), ("r2", 10**9)):
        await store.reserve(Hold(name, (limit,), nusd, 0, 0, 0, 0, 60.0))
    await store.settle("blue", "r1", 2 * 10**9, 0)

    await headroom.refresh()

    assert figures(headroom) == {
        ("waypost_budget_limit", made.id): 10.0,
        ("waypost_budget_used", made.id): 3.0,
    }
    (sample,) = next(iter(headroom.collect())).samples
    assert sample.labels == {
        "budget": made.id,
        "scope": "team",
        "measure": "usd",
        "window": "month",
    }


async def test_no_label_names_a_team_or_a_user(engine, headroom):
    budget(engine, 5, scope="user", scope_id="alice", measure="tokens")

    await headroom.refresh()

    told = str([family.samples for family in headroom.collect()])
    assert "waypost_budget_limit" in told
    assert "alice" not in told
    assert "blue" not in told


async def test_a_default_for_many_has_no_series(engine, headroom):
    budget(engine, 5, scope="user", measure="tokens")
    budget(engine, 5, scope="turn", measure="tokens")

    await headroom.refresh()

    assert figures(headroom) == {}


async def test_the_number_of_series_is_bounded_and_teams_come_first(engine, headroom):
    for number in range(MOST_TOLD + 5):
        budget(engine, 5, scope="user", scope_id=f"u{number}", measure="tokens")
    KeyStore(engine).create_team("red")
    teams = {budget(engine, 5).id, budget(engine, 5, team_id="red").id}

    await headroom.refresh()

    assert len(headroom.told) == MOST_TOLD
    assert {definition.id for definition, _ in headroom.told[:2]} == teams


async def test_while_the_store_is_down_the_last_figures_stay(engine, store, headroom):
    budget(engine, 5)
    await headroom.refresh()
    before = figures(headroom)
    store.is_up = False
    budget(engine, 7, window="day")

    await headroom.refresh()

    assert figures(headroom) == before
