"""The decisions of the loop, on a real log, a real store and routers that were really trained."""

from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import pytest
from sqlalchemy import delete

from gateway.artifacts.learning_file import LearningFile
from gateway.evaluation_log.grades import GradeRecord
from gateway.learning.first import FirstRouter
from gateway.learning.opening import LEARNER
from gateway.learning.operating import approve, roll_back
from gateway.learning.watching import step_with_lease
from gateway.storage.database import create_database_engine, writing
from gateway.storage.lease import Lease
from migrations.tables import LEARNING_EVENTS
from router_models.day_one.shipped import load_prior
from router_models.errors import ArtifactRejected
from router_models.types import Evaluations
from tests.fakes.evaluations import MODELS, counted, made_up
from tests.fakes.learning_loop import ENCODER, SETTINGS, Clock, Loop, mistaken
from tests.fakes.logged import fill, records
from tests.fakes.priors import prior_bytes


async def test_from_graded_answers_a_router_is_trained_and_serves(loop):
    await loop.serve(made_up(400))

    assert loop.step() == ["trained", "activated"]

    event = loop.events.latest("activated")
    assert event is not None
    assert event.router_version == loop.store.active()
    trained = loop.events.latest("trained")
    assert trained is not None
    assert "ridge learned from" in trained.why
    assert trained.figures["new_grades"] == 400
    assert loop.step() == []


async def test_the_first_router_has_to_stand_beside_the_prior_that_served_so_far(loop):
    prior = load_prior(prior_bytes(ENCODER), ENCODER)
    learner = loop.learner(first=FirstRouter(prior, {}))
    await loop.serve(counted(made_up(800)))

    done = step_with_lease(learner) or ()

    assert [event.what for event in done] == ["trained", "activated"]
    assert done[-1].former_version == loop.store.history()[0]
    assert f"against {done[-1].former_version}" in done[-1].why


async def test_a_proposed_router_serves_when_an_operator_says_so(loop):
    await loop.serve(made_up(400))
    assert loop.step(SETTINGS.model_copy(update={"on_acceptance": "propose"})) == [
        "trained",
        "proposed",
    ]
    assert loop.store.active() is None

    event = approve(loop.events, loop.store, None, loop.clock())

    assert (event.who, event.what) == ("operator", "activated")
    assert loop.store.active() == event.router_version
    assert loop.step() == []


def test_what_was_not_proposed_cannot_be_approved(loop):
    with pytest.raises(ArtifactRejected, match="no router was proposed"):
        approve(loop.events, loop.store, None, loop.clock())


async def test_few_new_grades_wait_until_it_is_time(loop):
    await loop.serve(made_up(400))
    assert "activated" in loop.step()
    await loop.serve(made_up(60, seed=2), "later")
    assert loop.step() == []
    loop.clock.now += timedelta(hours=25)
    assert "trained" in loop.step()


async def test_the_first_training_waits_no_longer_than_any_other_one(loop):
    await loop.serve(made_up(120))
    assert loop.step() == []
    loop.clock.now += timedelta(hours=22)
    assert loop.step() == []
    loop.clock.now += timedelta(hours=2)
    assert loop.step()[0] == "trained"


def test_without_grades_it_says_so_once(loop):
    assert loop.step() == ["skipped"]
    assert loop.step() == []
    event = loop.events.latest()
    assert event is not None
    assert "no graded answer" in event.why


async def test_checks_and_signals_begin_no_training(loop):
    await loop.serve(made_up(400), source="check")
    assert loop.step() == ["skipped"]


async def test_one_model_alone_leaves_nothing_to_choose(loop):
    rows = made_up(400)
    alone = Evaluations(rows.embeddings, rows.quality[:, :1], rows.cost_usd[:, :1], MODELS[:1])
    await loop.serve(alone)
    assert loop.step() == ["skipped"]
    assert loop.step() == []


async def test_a_router_that_is_not_known_to_be_as_good_is_refused(loop):
    good = loop.activate(made_up(3000, seed=1))
    await loop.serve(made_up(120, seed=2))
    few = SETTINGS.model_copy(update={"min_new_grades": 50})
    assert loop.step(few) == ["activated", "trained", "refused"]
    assert loop.store.active() == good
    event = loop.events.latest("refused")
    assert event is not None
    assert "too few to compare" in event.why
    assert loop.step(few) == []


async def test_a_router_that_is_worse_than_the_one_before_is_rolled_back_and_not_tried_again(loop):
    good, bad = loop.activate(made_up(2000, seed=1)), loop.activate(mistaken())
    assert loop.step()[0] == "activated"  # by somebody else, who said nothing
    await loop.serve(made_up(900, seed=2))

    done = loop.step(SETTINGS.model_copy(update={"min_new_grades": 10_000}))

    assert done == ["rolled_back"]
    assert loop.store.active() == good
    event = loop.events.latest("rolled_back")
    assert event is not None
    assert (event.router_version, event.former_version) == (bad, good)
    assert event.figures["p_value"] <= 0.05
    assert "does worse than" in event.why
    assert loop.events.rolled_back() == {bad}


async def test_a_router_that_is_better_stays_and_the_watch_says_how_it_goes(loop):
    loop.activate(mistaken())
    good = loop.activate(made_up(2000, seed=1))
    waits = SETTINGS.model_copy(update={"min_new_grades": 10_000})
    loop.step(waits)
    await loop.serve(made_up(400, seed=2))
    assert loop.step(waits) == ["watched"]
    assert loop.step(waits) == []
    assert loop.store.active() == good


async def test_after_a_rollback_only_what_was_seen_since_speaks_for_the_next_router(loop):
    loop.activate(made_up(2000, seed=1))
    await loop.serve(mistaken(), "before")  # by which the next router is wrong, and seems right
    bad = loop.activate(mistaken())
    loop.step(SETTINGS.model_copy(update={"min_new_grades": 10_000}))
    await loop.serve(made_up(900, seed=2))
    assert loop.step(SETTINGS.model_copy(update={"min_new_grades": 10_000})) == ["rolled_back"]

    loop.step()

    event = loop.events.latest("refused", "activated")
    assert event is not None
    assert event.figures["acceptance"]["answers"] < 0.25 * 900
    assert loop.store.active() != bad


async def test_the_same_rows_are_not_learned_from_twice(loop):
    truth = made_up(400)
    await loop.serve(truth)
    loop.step()
    grades = [row for row in records(truth) if isinstance(row, GradeRecord)]
    again = [replace(g, grade_id=f"{g.grade_id}-again") for g in grades]
    later_s = loop.clock.now.timestamp()
    await fill(
        loop.engine, loop.folder, iter([replace(g, created_at_unix_s=later_s) for g in again])
    )
    assert loop.step() == ["skipped"]
    assert loop.step() == []


async def test_a_training_that_was_killed_before_its_verdict_is_begun_again(loop):
    await loop.serve(made_up(400))
    loop.step()
    killed = loop.events.latest("trained")
    with writing(loop.engine) as connection:
        connection.execute(delete(LEARNING_EVENTS).where(LEARNING_EVENTS.c.what == "activated"))
    (loop.store.folder / "active").unlink()
    loop.clock.now += timedelta(days=1)
    assert loop.step() == ["trained", "activated"]
    again = loop.events.latest("trained")
    assert killed is not None
    assert again is not None
    assert again.figures["rows_sha256"] == killed.figures["rows_sha256"]


async def test_a_training_that_fails_changes_nothing_and_says_why(loop):
    good = loop.activate(made_up(2000, seed=1))
    await loop.serve(made_up(15))
    eager = SETTINGS.model_copy(update={"min_new_grades": 10})
    assert loop.step(eager) == ["activated", "failed"]
    event = loop.events.latest("failed")
    assert event is not None
    assert "no router was made: " in event.why
    assert loop.store.active() == good
    assert loop.step(eager) == []


async def test_a_full_disk_changes_nothing_and_says_why(loop):
    await loop.serve(made_up(400))
    (loop.folder / "routers").write_text("in the place of the folder")
    assert loop.step() == ["failed"]
    event = loop.events.latest("failed")
    assert event is not None
    assert "no router was made: " in event.why
    assert loop.step() == []


async def test_whoever_lost_the_lease_changes_nothing(loop):
    await loop.serve(made_up(400))
    learner = loop.learner()
    Lease(loop.engine, LEARNER, "another one").take()

    done = learner.step()

    assert [event.what for event in done] == ["trained", "failed"]
    assert loop.store.active() is None
    assert step_with_lease(learner) is None


async def test_what_a_killed_step_left_is_noted_by_the_next_one(loop):
    version = loop.activate(made_up(300))
    assert loop.step() == ["activated", "skipped"]
    event = loop.events.latest("activated")
    assert event is not None
    assert event.router_version == version
    assert "it was found active" in event.why


def learn_in(folder: Path, clock: Clock) -> None:
    """Take a step in this process."""
    Loop(create_database_engine(f"sqlite:///{folder / 'waypost.db'}"), folder, clock).step()


async def test_a_learner_that_is_killed_leaves_nothing_half_done(loop):
    await loop.serve(made_up(400))
    child = get_context("spawn").Process(target=learn_in, args=(loop.folder, loop.clock))
    child.start()
    while child.is_alive() and not list(loop.store.folder.glob("*.safetensors")):
        child.join(0.001)
    child.kill()
    child.join()

    loop.step()

    active = loop.store.active()
    assert active is not None
    assert loop.store.manifest(active).version == active
    event = loop.events.latest("activated")
    assert event is not None
    assert event.router_version == active
    assert loop.step() == []


async def test_a_damaged_router_that_serves_is_replaced(loop):
    loop.activate(made_up(300))
    for file in loop.store.folder.glob("*.safetensors"):
        file.write_bytes(b"damaged")
    await loop.serve(made_up(400))
    assert loop.step()[-2:] == ["trained", "activated"]


async def test_a_step_says_what_routing_is_worth_beside_a_fixed_choice(loop):
    await loop.serve(made_up(1200))
    loop.step()
    event = loop.events.latest("activated")
    assert event is not None
    found = event.figures["fixed_choice"]
    assert found["model"] in MODELS
    low, value, high = (found["gain_usd_per_1000_turns"][place] for place in (1, 0, 2))
    assert low <= value <= high
    assert "USD per 1,000 turns" in event.why


async def test_metrics_say_how_often_and_when(loop):
    await loop.serve(made_up(400))
    loop.step()
    families = {family.name: family for family in LearningFile(loop.store.folder).collect()}
    counts = {
        sample.labels["what"]: sample.value
        for sample in families["waypost_learning_events"].samples
    }
    assert counts == {"trained": 1.0, "activated": 1.0}


def test_an_operator_rolls_back_and_the_learner_remembers(loop):
    good, bad = loop.activate(made_up(300, seed=1)), loop.activate(mistaken())
    event = roll_back(loop.events, loop.store, loop.clock())
    assert (event.router_version, event.former_version) == (bad, good)
    assert loop.store.active() == good
    loop.events.add(replace(event, what="proposed"))
    with pytest.raises(ArtifactRejected, match="was rolled back"):
        approve(loop.events, loop.store, bad, loop.clock())
