"""The first trained router is compared with the prior, and the loop returns to that."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gateway.artifacts.active import ActiveRouter
from gateway.evaluation_log.graded_answers import GradedAnswer
from gateway.learning.events import Event
from gateway.learning.first import FirstRouter
from gateway.learning.operating import approve, roll_back
from gateway.learning.watching import step_with_lease
from gateway.providers.refusals import Refusals
from gateway.routing.canary import Canary, read_canary
from gateway.routing.exploring import OFF, Exploring, always
from gateway.routing.prior import DayOne
from gateway.routing.routing import Routing
from gateway.settings.config import DEFAULT_PROFILES
from gateway.settings.learning import LearningSettings
from router_models.day_one.shipped import load_prior
from router_models.types import Evaluations, Float32
from tests.fakes.evaluations import MODELS, counted, made_up
from tests.fakes.learning_loop import ENCODER, SETTINGS, Loop
from tests.fakes.priors import prior_bytes
from tests.fakes.routing import hosted, planned, request

PRIOR = load_prior(prior_bytes(ENCODER), ENCODER)
WAITS = {"min_new_grades": 10_000}


@pytest.fixture
def day_one() -> DayOne:
    return DayOne(PRIOR)


def step(loop: Loop, **changes: Any) -> list[Event]:
    settings: LearningSettings = SETTINGS.model_copy(update=changes)
    learner = loop.learner(settings, first=FirstRouter(PRIOR, {}))
    return [event for event in step_with_lease(learner) or () if event.what != "watched"]


def opposite(queries: int, seed: int) -> Evaluations:
    """Answers whose models are good where they were bad."""
    rows = made_up(queries, seed=seed)
    return counted(replace(rows, quality=1.0 - rows.quality))


async def routed(loop: Loop, day_one: DayOne) -> Routing:
    """Make routing as a gateway of this log and store does."""
    active, rng = ActiveRouter(loop.store, ENCODER), np.random.default_rng(0)
    await active.refresh()
    canary = Canary(lambda: read_canary(loop.engine), active, rng)
    await canary.refresh()
    return Routing(
        models={name: hosted(name) for name in MODELS},
        profiles=DEFAULT_PROFILES,
        default_profile="balanced",
        default_model=MODELS[0],
        exploration=Exploring(OFF, always, None),
        embedder=_Embedder(),
        router=active,
        paused=tuple,
        refusals=Refusals(time.monotonic),
        rng=rng,
        prior=day_one,
        canary=canary,
    )


class _Embedder:
    encoder_id = ENCODER.id

    async def embed(self, text: str, team_id: str) -> Float32:
        return np.ones(ENCODER.dimension, np.float32)


async def test_a_bad_first_router_is_rolled_back_to_the_prior_which_routes_with_all_use_taught_it(
    loop, day_one
):
    await loop.serve(opposite(800, seed=1), "before-")
    trained, activated = step(loop)
    assert (trained.what, activated.what) == ("trained", "activated")
    assert (await planned(await routed(loop, day_one), request())).router_version != PRIOR.version
    await loop.serve(counted(made_up(900, seed=2)))

    (event,) = step(loop, **WAITS)

    assert event.what == "rolled_back"
    assert event.router_version == activated.router_version
    assert event.former_version == loop.store.active()
    routing = await routed(loop, day_one)
    plan = await planned(routing, request())
    assert plan.router_version == PRIOR.version
    bad = GradedAnswer(plan.models[0].name, np.ones(ENCODER.dimension, np.float32), 0.0, 1.0, 200)
    day_one.learn(tuple(routing.models.values()), [bad] * 200)
    assert (await planned(routing, request())).models[0].name != bad.model


async def test_the_prior_decides_its_share_as_it_was_while_the_first_router_is_watched(
    loop, day_one
):
    await loop.serve(opposite(800, seed=1))
    _, activated = step(loop, kept_share=0.5)
    kept = read_canary(loop.engine)
    assert kept is not None
    assert not kept.is_new
    routing = await routed(loop, day_one)
    versions = {(await planned(routing, request())).router_version for _ in range(40)}
    assert versions == {activated.router_version, kept.version}


async def test_the_first_router_may_begin_as_a_canary_beside_the_prior(loop, day_one):
    await loop.serve(opposite(800, seed=1))
    _, kept, canary = step(loop, on_acceptance="canary", canary_shares=(0.5,))
    assert (kept.what, canary.what) == ("activated", "canary")
    assert canary.former_version == kept.router_version == loop.store.active()
    routing = await routed(loop, day_one)
    versions = {(await planned(routing, request())).router_version for _ in range(40)}
    assert versions == {canary.router_version, kept.router_version}
    assert step(loop, on_acceptance="canary", canary_shares=(0.5,)) == []

    roll_back(loop.events, loop.store, loop.clock())

    assert (await planned(await routed(loop, day_one), request())).router_version == PRIOR.version


async def test_an_operator_who_let_the_first_router_serve_returns_to_the_prior(loop, day_one):
    await loop.serve(opposite(800, seed=1))
    _, proposed = step(loop, on_acceptance="propose")
    assert loop.store.active() is None
    event = approve(loop.events, loop.store, None, loop.clock(), kept_share=0.1)
    assert event.former_version == proposed.former_version
    kept = read_canary(loop.engine)
    assert kept is not None
    assert kept.version == proposed.former_version

    roll_back(loop.events, loop.store, loop.clock())

    assert (await planned(await routed(loop, day_one), request())).router_version == PRIOR.version


async def test_after_a_return_the_next_router_stands_beside_the_prior_as_it_is_by_then(loop):
    await loop.serve(opposite(800, seed=1), "before-")
    _, first = step(loop)
    roll_back(loop.events, loop.store, loop.clock())
    await loop.serve(counted(made_up(1600, seed=2)))
    _, second = step(loop)
    assert second.what == "activated"
    assert second.former_version not in {None, first.former_version}
    assert loop.store.history()[-2:] == [second.former_version, second.router_version]


async def test_a_prior_that_nobody_took_the_place_of_leaves_nothing_in_the_store(loop):
    await loop.serve(counted(made_up(120, seed=2)))
    done = step(loop, min_new_grades=50)
    assert [event.what for event in done] == ["trained", "refused"]
    assert [one.version for one in loop.store.list_all()] == [done[0].router_version]
