"""A canary decides its share, and what is logged is how likely each model was under both."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from gateway.artifacts.active import ActiveRouter
from gateway.artifacts.store import ArtifactStore
from gateway.learning.events import Event, LearningEvents
from gateway.routing.canary import Canary, CanaryState, mixed, read_canary
from gateway.routing.plan import CanaryScores, Scores
from gateway.routing.routing import Routing
from gateway.storage.database import create_database_engine
from router_models.decide import Exploration, decide
from tests.fakes.artifacts import ENCODER, router_artifact
from tests.fakes.routing import CALLER, planned, request
from tests.fakes.schemas import closing, with_schema
from tests.fakes.turn_budgets import make_turn_budgets

TURNS = 4000
NOTHING = Scores((), (), 1.0, None)
POOL = ("a", "b", "c")
quality = st.tuples(*[st.floats(0, 1)] * len(POOL))
explorations = st.sampled_from([Exploration("off"), Exploration("epsilon", 0.3)])


def decision(quality: tuple[float, ...], exploration: Exploration, rng: np.random.Generator) -> Any:
    costs, can = (0.0,) * len(POOL), (True,) * len(POOL)
    return decide(POOL, quality, costs, can, 1.0, exploration=exploration, rng=rng)


@given(quality, quality, st.floats(0.01, 0.5), explorations, st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_models_are_chosen_as_often_as_is_logged(own, other, share, exploration, seed):
    rng = np.random.default_rng(seed)
    chosen: Counter[str] = Counter()
    for _ in range(TURNS):
        canary = CanaryScores("canary", NOTHING, share, bool(rng.random() < share))
        first, second = (decision(each, exploration, rng) for each in (own, other))
        found = mixed(first, second, canary, POOL)
        chosen[found.model] += 1
        assert found.propensity == found.propensities[POOL.index(found.model)]
    assert sum(found.propensities) == pytest.approx(1.0)
    for model, odds in zip(POOL, found.propensities, strict=True):
        spread = 5 * (odds * (1 - odds) / TURNS) ** 0.5 + 5 / TURNS
        assert chosen[model] / TURNS == pytest.approx(odds, abs=spread)


async def canary_in(
    store: ArtifactStore, routing: Any, share: float, **changes: Any
) -> tuple[Routing, Canary]:
    """Make routing whose active router and canary prefer different models."""
    serving = await routing(**changes)
    seed = await other_choice(store, routing, serving)
    version = store.put(router_artifact(seed)).version
    state = CanaryState(version, share, "salt")
    canary = Canary(lambda: state, serving.router, np.random.default_rng(1))
    await canary.refresh()
    return await routing(router=serving.router, canary=canary, **changes), canary


async def other_choice(store: ArtifactStore, routing: Any, serving: Routing) -> int:
    usual = await planned(serving, asked())
    for seed in range(1, 50):
        version = store.put(router_artifact(seed)).version
        plan = await planned(serving, asked(router_version=version))
        if plan.models[0] != usual.models[0]:
            return seed
    raise AssertionError("no router chooses otherwise")


def asked(**options: Any) -> Any:
    return request(waypost={"willingness_to_pay": 1e6, **options})


async def test_a_share_of_turns_is_decided_by_the_canary_and_says_so(store, routing):
    it, canary = await canary_in(store, routing, 0.25)
    plans = [await planned(it, asked()) for _ in range(400)]
    assert canary.current is not None
    by_canary = [p for p in plans if p.router_version == canary.current[0].version]
    assert 60 < len(by_canary) < 140
    assert {plan.propensity for plan in by_canary} == {0.25}
    assert {plan.propensity for plan in plans if plan not in by_canary} == {0.75}
    assert all(sum(one.propensity for one in plan.candidates) == 1.0 for plan in plans)


async def test_a_conversation_stays_with_its_router_when_the_share_grows(store, routing):
    it, canary = await canary_in(store, routing, 0.25)
    asking = [asked(conversation_id=f"c{number}") for number in range(200)]
    first = [(await planned(it, one)).router_version for one in asking]
    assert [(await planned(it, one)).router_version for one in asking] == first
    assert canary.current is not None
    version = canary.current[0].version
    canary.read = lambda: CanaryState(version, 0.5, "salt")
    await canary.refresh()
    later = [(await planned(it, one)).router_version for one in asking]
    stayed = [then for now, then in zip(first, later, strict=True) if now == version]
    assert set(stayed) == {version}
    assert 30 < first.count(version) < later.count(version) < 130


async def test_conversations_of_two_teams_by_one_name_are_two(store, routing):
    _, canary = await canary_in(store, routing, 0.5)
    names = [f"c{number}" for number in range(100)]
    one, other = ([canary.draws(team, name) for name in names] for team in ("a", "b"))
    assert one != other


async def test_whoever_names_a_router_or_a_model_gets_it(store, routing):
    it, _ = await canary_in(store, routing, 0.5)
    version = it.router.version
    plans = [await planned(it, asked(router_version=version)) for _ in range(20)]
    assert {(plan.router_version, plan.propensity) for plan in plans} == {(version, 1.0)}
    named = await planned(it, request("small"))
    assert (named.router_version, named.propensity) == (None, 1.0)


async def test_turns_with_a_budget_are_the_active_routers(store, routing):
    it, _ = await canary_in(store, routing, 0.5)
    budgets = make_turn_budgets()
    one = asked(conversation_id="c", turn_budget=1000)
    plans = [await planned(it, one, CALLER, budgets) for _ in range(20)]
    assert {plan.allotment is not None for plan in plans} == {True}
    assert {(p.router_version, p.propensity) for p in plans} == {(it.router.version, 1.0)}


async def test_a_canary_that_cannot_be_read_decides_nothing(store, routing):
    serving = await routing()
    canary = Canary(
        lambda: CanaryState("gone-1", 0.5, "salt"), serving.router, np.random.default_rng()
    )
    await canary.refresh()
    assert canary.current is None
    assert not canary.draws("t", None)


async def test_a_canary_that_serves_by_now_shares_nothing(store, routing):
    serving = await routing()
    state = CanaryState(str(serving.router.version), 0.5, "salt")
    canary = Canary(lambda: state, serving.router, np.random.default_rng())
    await canary.refresh()
    assert canary.current is None


async def test_without_the_database_the_canary_stays_as_it_is(store, routing):
    _, canary = await canary_in(store, routing, 0.5)

    def fail() -> None:
        raise OperationalError("select", {}, Exception("down"))

    before, canary.read = canary.current, fail
    assert not await canary.refresh()
    assert canary.current is before is not None


def test_the_last_event_says_whether_a_canary_runs(tmp_path):
    engine = create_database_engine(f"sqlite:///{tmp_path / 'waypost.db'}")
    with closing(with_schema(engine)):
        events = LearningEvents(engine)

        def note(what: Any, **figures: Any) -> CanaryState | None:
            now = datetime.now(UTC)
            events.add(Event(now, "learner", what, "because", "new-1", "old-1", figures))
            return read_canary(engine)

        assert read_canary(engine) is None
        assert note("canary", share=0.01, salt="s") == CanaryState("new-1", 0.01, "s")
        assert note("watched") == CanaryState("new-1", 0.01, "s")
        assert note("canary", share=0.05, salt="s") == CanaryState("new-1", 0.05, "s")
        assert note("rolled_back") is None
        assert note("canary", share=0.01, salt="s") is not None
        assert note("activated") is None
        kept = CanaryState("old-1", 0.05, "s", is_new=False)
        assert note("activated", share=0.05, salt="s") == kept
        assert note("rolled_back", share=0.05, salt="s") is None


async def test_two_replicas_draw_the_same_conversations(store, routing):
    _, canary = await canary_in(store, routing, 0.3)
    assert canary.current is not None
    router = ActiveRouter(store, ENCODER)
    await router.refresh()
    state = CanaryState(canary.current[0].version, 0.3, "salt")
    other = Canary(lambda: state, router, np.random.default_rng(99))
    await other.refresh()
    names = [f"c{number}" for number in range(100)]
    assert [canary.draws("t", n) for n in names] == [other.draws("t", n) for n in names]


async def test_nobody_can_know_beforehand_which_conversations_a_canary_decides(store, routing):
    _, canary = await canary_in(store, routing, 0.5)
    names = [f"c{number}" for number in range(100)]
    one = [canary.draws("t", name) for name in names]
    canary.salt = "another"
    assert [canary.draws("t", name) for name in names] != one
