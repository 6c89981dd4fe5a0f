from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from federation.deployment.sessions import MAX_KEPT, SESSION_FILE, FileCheckpoints, SessionStore

NOW = datetime(2026, 11, 22, 22, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path / "sessions")


def test_a_session_that_was_asked_for_waits(store):
    session = store.ask("operator", NOW)

    assert store.list_all() == [session]
    assert session.is_open


def test_asking_twice_is_asking_once(store):
    first = store.ask("operator", NOW)

    assert store.ask("schedule", NOW + timedelta(hours=1)) == first


def test_asking_for_something_else_is_no_repetition(store):
    first = store.ask("operator", NOW)

    second = store.ask("operator", NOW + timedelta(seconds=1), "models")

    assert (first.grow, store.read(second.id).grow) == (None, "models")


def test_the_latest_file_is_that_of_the_newest_finished_session(store):
    for hour, reason in enumerate((None, None, "too few sites", None)):
        session = store.begin(store.ask("operator", NOW + timedelta(hours=hour)), run_id=hour)
        if hour < 3:
            (store.folder_of(session) / "router").write_bytes(bytes([hour]))
        store.end(session, NOW, report={}, reason=reason)

    session, data = store.latest("router")

    assert (session.id, data) == (store.list_all()[1].id, bytes([1]))
    assert store.latest("nothing") is None


def test_who_asks_while_one_trains_gets_another_one_after_it(store):
    first = store.begin(store.ask("operator", NOW), run_id=7)

    second = store.ask("operator", NOW + timedelta(seconds=1))

    assert [session.id for session in store.list_all()] == [first.id, second.id]


def test_a_begun_session_is_found_again_after_a_kill(store):
    begun = store.begin(store.ask("operator", NOW), run_id=2**63 + 5)

    assert SessionStore(store.folder).list_all() == [begun]
    assert begun.run_id == 2**63 + 5
    assert begun.is_open
    assert begun.attempts == 1


def test_an_ended_session_is_no_longer_open_and_says_why(store):
    begun = store.begin(store.ask("operator", NOW), run_id=7)

    failed = store.end(begun, NOW, report={}, reason="1 of 2 sites answered")

    assert store.read(begun.id) == failed
    assert (failed.state, failed.is_open) == ("failed", False)


def ended(store, hour: int):
    """A session that was asked for and ended at this hour."""
    begun = store.begin(store.ask("schedule", NOW + timedelta(hours=hour)), run_id=hour)
    return store.end(begun, NOW, report={}, reason=None)


def test_the_recent_ones_are_those_that_are_open_and_the_one_that_ended_last(store):
    for hour in range(3):
        last = ended(store, hour)
    trained = store.begin(store.ask("operator", NOW + timedelta(hours=3)), run_id=3)
    waiting = store.ask("operator", NOW + timedelta(hours=4))

    assert store.recent() == [last, trained, waiting]


def test_old_sessions_are_deleted_with_their_files(store):
    oldest, *others = [ended(store, hour) for hour in range(MAX_KEPT + 1)]

    assert [session.id for session in store.list_all()] == [session.id for session in others]
    assert not store.folder_of(oldest).exists()


def test_what_was_noted_last_stays_when_a_session_fails(store):
    begun = store.begin(store.ask("operator", NOW), run_id=7)
    store.note(begun, {"rounds": [{"round": 1}]})

    failed = store.end(begun, NOW, reason="1 of 2 sites answered")

    assert failed.report == store.read(begun.id).report == {"rounds": [{"round": 1}]}


def test_a_report_is_kept(store):
    begun = store.begin(store.ask("operator", NOW), run_id=7)

    store.end(begun, NOW, report={"version": "r-1", "rounds": [{"round": 1}]}, reason=None)

    assert store.read(begun.id).state == "finished"
    assert store.read(begun.id).report == {"version": "r-1", "rounds": [{"round": 1}]}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"asked_at": 5}'])
def test_a_damaged_session_names_its_file(store, content):
    session = store.ask("operator", NOW)
    (store.folder / session.id / SESSION_FILE).write_text(content)

    with pytest.raises(ValueError, match=r"session\.json is damaged"):
        store.read(session.id)


def test_a_checkpoint_is_kept_replaced_and_forgotten(tmp_path):
    checkpoints = FileCheckpoints(tmp_path / "checkpoint")
    assert checkpoints.load() is None

    checkpoints.save(b"first")
    checkpoints.save(b"second")
    assert checkpoints.load() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]

    checkpoints.clear()
    checkpoints.clear()
    assert checkpoints.load() is None
