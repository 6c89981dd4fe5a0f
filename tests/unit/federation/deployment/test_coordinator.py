from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from federation.deployment.coordinator import MAX_ATTEMPTS, SessionScheduler
from federation.deployment.flower import RunStopped
from federation.deployment.sessions import SessionRecord, SessionStore
from federation.errors import QuorumMissing

NOW = datetime(2026, 11, 22, 22, 0, tzinfo=UTC)
GRID: Any = object()


class Killed(BaseException):
    """Ends a conductor as a kill does, without a word on disk."""


@dataclass
class FakeFlower:
    """Offers the runs that were started, the oldest first; some come from elsewhere."""

    started: list[int] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)
    offered: list[int] = field(default_factory=list)
    served: list[int] = field(default_factory=list)
    losses: int = 0

    def start_run(self) -> int:
        """Start the next run."""
        self.started.append(len(self.started) + 1)
        self.offered.append(self.started[-1])
        return self.started[-1]

    def stop_run(self, run_id: int) -> None:
        """Withdraw a run."""
        self.stopped.append(run_id)
        self.offered = [offered for offered in self.offered if offered != run_id]

    def run(self, serve_run: Callable[[int, Any], None]) -> None:
        """Have a run served; without one there is nothing more to test."""
        if not self.offered:
            raise Killed
        run_id = self.offered.pop(0)
        if self.losses:
            self.losses -= 1
            raise RunStopped("Flower ended the run")
        serve_run(run_id, GRID)
        self.served.append(run_id)


@dataclass
class Training:
    """Plays a script: what it does in each attempt."""

    script: list[Any]
    sessions: list[SessionRecord] = field(default_factory=list)

    def __call__(self, grid: Any, session: SessionRecord) -> dict[str, Any]:
        assert grid is GRID
        self.sessions.append(session)
        outcome: dict[str, Any] | BaseException = self.script.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


@dataclass
class Clock:
    """Goes an hour on at each look; the test is over after a day."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        self.now += timedelta(hours=1)
        if self.now > NOW + timedelta(hours=24):
            raise Killed
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path / "sessions")


def conduct(
    store: SessionStore, flower: FakeFlower, *script: Any, every: timedelta | None = None
) -> Training:
    """Conduct until the script or the day is over."""
    training = Training([*script, Killed()])
    conductor: Any = SessionScheduler(
        operator=flower,  # type: ignore[arg-type]
        tasks=flower,  # type: ignore[arg-type]
        sessions=store,
        train=training,
        every=timedelta(days=99) if every is None else every,
        clock=Clock(),
        poll_s=0.0,
    )
    with pytest.raises(Killed):
        conductor.run()
    return training


def states(store: SessionStore) -> list[str]:
    return [session.state for session in store.list_all()]


def test_a_session_that_was_asked_for_is_trained_and_reported(store):
    asked = store.ask("operator", NOW)

    training = conduct(store, FakeFlower(), {"version": "r-1"})

    session = store.read(asked.id)
    assert (session.state, session.report) == ("finished", {"version": "r-1"})
    assert [each.id for each in training.sessions] == [asked.id]


def test_sessions_are_trained_one_after_the_other(store):
    first = store.begin(store.ask("operator", NOW), run_id=77)
    store.ask("operator", NOW + timedelta(seconds=1))

    training = conduct(store, FakeFlower(), {}, {})

    assert training.sessions[0].id == first.id
    assert states(store) == ["finished", "finished"]


def test_a_training_that_fails_says_why_and_ends(store):
    store.ask("operator", NOW)

    conduct(store, FakeFlower(), QuorumMissing("1 of 2 sites answered"))

    session = store.list_all()[0]
    assert (session.state, session.reason) == ("failed", "1 of 2 sites answered")


def test_a_session_cut_off_by_a_kill_goes_on_in_a_new_run(store):
    store.ask("operator", NOW)
    flower = FakeFlower()
    conduct(store, flower)
    assert states(store) == ["training"]

    conduct(store, flower, {"version": "r-1"})

    assert flower.stopped == [1]
    session = store.list_all()[0]
    assert (session.state, session.attempts, session.run_id) == ("finished", 2, 2)


def test_a_session_whose_run_flower_ended_goes_on(store):
    store.ask("operator", NOW)
    flower = FakeFlower(losses=1)

    conduct(store, flower, {})

    assert states(store) == ["finished"]
    assert flower.served == [2]


def test_a_session_that_ends_its_process_every_time_is_given_up(store):
    store.ask("operator", NOW)
    flower = FakeFlower()
    for _ in range(MAX_ATTEMPTS):
        conduct(store, flower)

    conduct(store, flower)

    session = store.list_all()[0]
    assert session.state == "failed"
    assert "given up" in str(session.reason)


def test_a_run_that_somebody_else_started_trains_nothing(store):
    asked = store.ask("operator", NOW)
    flower = FakeFlower(offered=[666])

    training = conduct(store, flower, {})

    assert len(training.sessions) == 1
    assert flower.served == [666, 1]
    assert store.read(asked.id).run_id == 1


def test_sessions_begin_on_schedule(store):
    conduct(store, FakeFlower(), {}, {}, {}, every=timedelta(hours=6))

    asked = [session.asked_at for session in store.list_all()]
    assert [session.asked_by for session in store.list_all()][:3] == ["schedule"] * 3
    assert all(b - a >= timedelta(hours=6) for a, b in pairwise(asked))


def test_a_restart_does_not_begin_what_is_not_due(store):
    ended: SessionRecord = store.begin(store.ask("schedule", NOW), run_id=1)
    store.end(ended, NOW, report={}, reason=None)

    training = conduct(store, FakeFlower(), every=timedelta(hours=48))

    assert training.sessions == []


def test_what_joins_a_router_does_not_put_off_training_anew(store):
    store.end(store.ask("operator", NOW), NOW, report={}, reason=None)
    later = NOW + timedelta(hours=1)
    store.end(store.ask("operator", later, "any"), later, report={}, reason=None)

    conduct(store, FakeFlower(), {}, every=timedelta(hours=2))

    third = store.list_all()[2]
    assert (third.asked_by, third.grow) == ("schedule", None)
    assert third.asked_at == NOW + timedelta(hours=2)
