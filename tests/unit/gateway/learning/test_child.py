import os
import threading
import time
from pathlib import Path

import pytest

from gateway.learning.child import LearnerProcess, Restarts, learner_beside
from gateway.settings.config import GatewaySettings
from tests.fakes.patience import PATIENCE_S

QUICK = Restarts(first_wait_s=0.01, last_wait_s=0.02, stop_s=PATIENCE_S)
FUNCTIONS = "tests.unit.gateway.learning.test_child"


def note_surroundings(settings: GatewaySettings) -> None:
    """Say who runs and how, then fail."""
    said = f"{os.getpid()} {os.nice(0)} {os.environ['OMP_NUM_THREADS']}\n"
    with (settings.data_dir / "notes").open("a") as notes:
        notes.write(said)
    raise RuntimeError("a training that failed")


def note_and_stay(settings: GatewaySettings) -> None:
    """Say who runs, and stay."""
    (settings.data_dir / "pid").write_text(str(os.getpid()))
    threading.Event().wait()


def until(is_so) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < give_up_at
        threading.Event().wait(0.01)


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(data_dir=tmp_path)


def kept_running(
    settings: GatewaySettings, function: str
) -> tuple[LearnerProcess, threading.Thread]:
    child = LearnerProcess(settings, f"{FUNCTIONS}:{function}", QUICK)
    thread = threading.Thread(target=child.run)
    thread.start()
    return child, thread


def test_a_learner_that_ends_is_started_again_with_low_priority_and_one_thread(settings):
    notes = settings.data_dir / "notes"
    child, thread = kept_running(settings, "note_surroundings")
    until(lambda: notes.exists() and len(notes.read_text().splitlines()) >= 2)
    child.stop()
    thread.join()

    first, second = (line.split() for line in notes.read_text().splitlines()[:2])
    assert first[0] != second[0]
    assert int(first[1]) >= min(os.nice(0) + 10, 19)
    assert first[2] == "1"
    assert child.restarts >= 1


def test_a_learner_ends_with_its_gateway(settings):
    pid = settings.data_dir / "pid"
    child, thread = kept_running(settings, "note_and_stay")
    until(lambda: pid.exists() and pid.read_text())
    child.stop()
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_without_the_setting_no_process_is_started(settings):
    threads = threading.active_count()
    with learner_beside(settings):
        assert threading.active_count() == threads
