"""From an accepted router to one that serves, share by share; or back, after few of its turns."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from gateway.candidate_records import CandidateRecord, Candidates
from gateway.evaluation_log.grades import GradeRecord
from gateway.learning.operating import approve, roll_back
from gateway.routing.canary import read_canary
from gateway.types import TurnRecord
from router_models.artifacts.artifact import load
from router_models.errors import ArtifactRejected
from router_models.types import Evaluations
from tests.fakes.evaluations import MODELS, made_up
from tests.fakes.learning_loop import BEGIN, ENCODER, SETTINGS, Loop, mistaken
from tests.fakes.logged import fill, records

SHARES = (0.1, 0.3)
CANARY = SETTINGS.model_copy(
    update={"on_acceptance": "canary", "canary_shares": SHARES, "canary_answers": 30}
)


def choices(loop: Loop, version: str, truth: Evaluations) -> list[int]:
    """Return which model a router chooses for each query."""
    router = load(loop.store.read(version), ENCODER)
    found = router.serving_estimator.predict(truth.embeddings)
    columns = [router.serving_estimator.models.index(model) for model in MODELS]
    utility = found.quality[:, columns] - found.cost_usd[:, columns]
    return [int(column) for column in utility.argmax(axis=1)]


def shared_turns(
    loop: Loop, truth: Evaluations, prefix: str, conversation: str | None = None
) -> Iterator[TurnRecord | GradeRecord]:
    """Log a turn for each query as two routers decide it, without any exploration.

    `conversation` is one that the canary decides, and whose caller finds all answers bad.
    """
    state = read_canary(loop.engine)
    active = loop.store.active()
    assert active is not None
    own = choices(loop, active, truth)
    other = own if state is None else choices(loop, state.version, truth)
    share = 0.0 if state is None else state.share
    rng = np.random.default_rng(len(prefix))
    wanted = []
    for column, another in zip(own, other, strict=True):
        odds = np.zeros(len(MODELS))
        odds[column] += 1.0 - share
        odds[another] += share
        is_drawn = conversation is not None or rng.random() < share
        wanted.append((another if is_drawn else column, odds, is_drawn))
    for row in records(truth, answers=len(MODELS), prefix=prefix):
        name = row.request_id if isinstance(row, TurnRecord) else row.answer_id
        query, model = map(int, name.removeprefix(f"req_{prefix}").split("_"))
        chosen, odds, is_drawn = wanted[query]
        if model != chosen:
            continue
        if isinstance(row, TurnRecord):
            version = state.version if is_drawn and state is not None else active
            odd = drawn(odds, model)
            yield replace(row, **odd, router_version=version, conversation_id=conversation)
        else:
            yield replace(row, score=0.0) if conversation else row


def drawn(odds: Any, model: int) -> dict[str, Any]:
    records = Candidates.of(
        CandidateRecord(name, 0.5, 0.001, 0.45, float(one), is_eligible=True, verdict="ok")
        for name, one in zip(MODELS, odds, strict=True)
    )
    return {"candidates": records, "propensity": float(odds[model]), "route_reason": "router"}


async def serve_turns(
    loop: Loop, truth: Evaluations, prefix: str, conversation: str | None = None
) -> int:
    """Serve for an hour; returns how many turns the canary decided."""
    later_s = (loop.clock.now - BEGIN).total_seconds()
    moved = [
        replace(row, started_at_unix_s=row.started_at_unix_s + later_s)
        if isinstance(row, TurnRecord)
        else replace(row, created_at_unix_s=row.created_at_unix_s + later_s)
        for row in shared_turns(loop, truth, prefix, conversation)
    ]
    await fill(loop.engine, loop.folder, iter(moved))
    loop.clock.now += timedelta(hours=1)
    active = loop.store.active()
    return sum(isinstance(row, TurnRecord) and row.router_version != active for row in moved)


async def begun(loop: Loop, active: Evaluations, learned: Evaluations) -> tuple[str, str]:
    """Let a router that was made of `learned` begin as a canary beside one made of `active`."""
    serving = loop.activate(active)
    loop.step(CANARY.model_copy(update={"min_new_grades": 10_000}))
    await loop.serve(learned, "before")
    assert loop.step(CANARY)[-2:] == ["trained", "canary"]
    state = read_canary(loop.engine)
    assert state is not None
    assert state.share == SHARES[0]
    assert loop.store.active() == serving
    return serving, state.version


@pytest.fixture
def waits() -> Any:
    """Never trains, so that a step is about the canary alone."""
    return CANARY.model_copy(update={"min_new_grades": 100_000})


async def test_a_good_canary_gets_share_after_share_and_then_serves(loop, waits):
    _, canary = await begun(loop, mistaken(), made_up(900, seed=3))
    await serve_turns(loop, made_up(80, seed=19), "few-")
    assert loop.step(waits) == []  # too few to grow by
    state = read_canary(loop.engine)
    assert state is not None
    shares = [state.share]
    for hour in range(8):
        await serve_turns(loop, made_up(300, seed=20 + hour), f"h{hour}-")
        loop.step(waits)
        state = read_canary(loop.engine)
        if state is None:
            break
        shares.append(state.share)
    assert loop.store.active() == canary
    assert sorted(shares) == shares
    assert set(shares) == set(SHARES)
    event = loop.events.latest("activated")
    assert event is not None
    assert event.why.startswith("as a canary it is not known to be worse than")


async def test_a_bad_canary_ends_after_few_of_its_turns_and_is_not_let_serve(loop, waits):
    serving, canary = await begun(loop, mistaken(), made_up(900, seed=3))
    turned = 0
    for hour in range(20):
        rows = made_up(100, seed=40 + hour)
        opposite = replace(rows, quality=1.0 - rows.quality)  # what was good is bad by now
        turned += await serve_turns(loop, opposite, f"h{hour}-")
        if loop.step(waits) == ["rolled_back"]:
            break
    assert read_canary(loop.engine) is None
    assert loop.store.active() == serving
    assert turned <= 60
    event = loop.events.latest("rolled_back")
    assert event is not None
    assert (event.router_version, event.former_version) == (canary, serving)
    assert "does worse than" in event.why
    with pytest.raises(ArtifactRejected, match="was rolled back"):
        approve(loop.events, loop.store, None, loop.clock())


async def test_while_a_canary_runs_nothing_else_is_trained(loop):
    await begun(loop, mistaken(), made_up(900, seed=3))
    await loop.serve(made_up(400, seed=9), "more", answers=1)
    assert "trained" not in loop.step(CANARY)


async def test_a_learner_that_starts_again_goes_on_with_the_canary(loop, waits):
    serving, canary = await begun(loop, mistaken(), made_up(900, seed=3))
    again = Loop(loop.engine, loop.folder, loop.clock)
    assert again.step(waits) == []
    state = read_canary(again.engine)
    assert state is not None
    assert state.version == canary
    assert again.store.active() == serving


async def test_a_step_that_was_killed_before_it_said_that_the_canary_serves_is_noted(loop, waits):
    _, canary = await begun(loop, mistaken(), made_up(900, seed=3))
    loop.store.activate(canary)
    assert loop.step(waits) == ["activated"]
    assert read_canary(loop.engine) is None
    assert loop.store.active() == canary


async def test_an_operator_ends_a_canary_or_lets_it_serve_at_once(loop, waits):
    serving, canary = await begun(loop, mistaken(), made_up(900, seed=3))
    event = approve(loop.events, loop.store, None, loop.clock())
    assert event.router_version == loop.store.active() == canary
    assert read_canary(loop.engine) is None
    loop.events.add(replace(event, what="canary", figures={"share": 0.1, "salt": "s"}))
    ended = roll_back(loop.events, loop.store, loop.clock())
    assert (ended.what, ended.router_version, ended.former_version) == (
        "rolled_back",
        canary,
        serving,
    )
    assert read_canary(loop.engine) is None
    assert loop.store.active() == canary  # it was the active one: the store is not touched


async def test_a_canary_ends_where_it_cannot_be_compared_any_longer(loop, waits):
    _, canary = await begun(loop, mistaken(), made_up(900, seed=3))
    loop.store.path(canary).unlink()
    assert loop.step(waits) == ["rolled_back"]
    assert read_canary(loop.engine) is None


async def test_a_canary_ends_when_the_settings_want_none_any_longer(loop):
    await begun(loop, mistaken(), made_up(900, seed=3))
    assert loop.step(SETTINGS) == ["rolled_back"]
    assert read_canary(loop.engine) is None


async def test_where_nothing_serves_there_is_nothing_to_share_turns_with(loop):
    await loop.serve(made_up(400))
    assert loop.step(CANARY) == ["trained", "activated"]


async def test_a_caller_that_stays_in_a_conversation_of_the_canary_ends_none(loop, waits):
    """Its grades would each count for ten turns, and it had to be lucky only once."""
    await begun(loop, mistaken(), made_up(900, seed=3))
    for hour in range(4):
        rows = made_up(300, seed=60 + hour)
        right = replace(rows, quality=np.ones_like(rows.quality))
        await serve_turns(loop, right, f"h{hour}-")
        await serve_turns(loop, right, f"lucky{hour}-", conversation="the lucky one")
        loop.step(waits)
    assert loop.events.latest("rolled_back") is None


@pytest.mark.parametrize("share", [0.1, 0.0], ids=["kept", "not kept"])
async def test_the_router_before_decides_a_share_so_that_a_loss_is_found(loop, share):
    settings = SETTINGS.model_copy(update={"kept_share": share, "min_new_grades": 100_000})
    former, worse = loop.activate(made_up(300, seed=5)), loop.activate(mistaken())
    assert "activated" in loop.step(settings)
    state = read_canary(loop.engine)
    assert (state and state[:2]) == ((former, share) if share else None)
    for hour in range(5):
        await serve_turns(loop, made_up(200, seed=70 + hour), f"h{hour}-")
        loop.step(settings)
    # Where each router is sure and nothing else is tried, nobody else knows of the other's choices.
    assert loop.store.active() == (former if share else worse)
    assert read_canary(loop.engine) is None


async def test_a_router_that_an_operator_lets_serve_is_compared_too(loop):
    settings = SETTINGS.model_copy(update={"on_acceptance": "propose"})
    former = loop.activate(mistaken())
    loop.step(settings)
    await loop.serve(made_up(900, seed=3))
    assert loop.step(settings)[-1] == "proposed"
    approve(loop.events, loop.store, None, loop.clock(), kept_share=0.1)
    state = read_canary(loop.engine)
    assert state is not None
    assert (state.version, state.share, state.is_new) == (former, 0.1, False)
