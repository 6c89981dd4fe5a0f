import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner, Result

from gateway.artifacts.store import ArtifactStore
from gateway.commands.learn import command
from gateway.learning.events import Event, LearningEvents
from gateway.learning.opening import LEARNER
from gateway.settings.config import load_settings
from gateway.storage.database import create_database_engine
from gateway.storage.lease import Lease
from tests.fakes.organisations import encoder, organisations
from tests.fakes.schemas import closing


@pytest.fixture(scope="module")
def acme():
    return organisations()[0]


@pytest.fixture
def settings_file(tmp_path, acme):
    file = tmp_path / "waypost.toml"
    learning = '\n[learning]\nestimator = "ridge"\nmin_new_grades = 10\nmax_rows = 400\n'
    # So few rows could not say whether a router does as well as the prior.
    text = acme.settings_text(tmp_path).replace("[routing]", "[routing]\nprior = false", 1)
    file.write_text(text + learning)
    return file


@pytest.fixture
def store(settings_file) -> ArtifactStore:
    return ArtifactStore(load_settings(settings_file, {}).artifact_dir)


def run(settings_file, *arguments: str) -> Result:
    return CliRunner().invoke(command, [*arguments, "--config", str(settings_file)])


def test_proposes_a_router_that_an_operator_approves_and_rolls_back(settings_file, store, acme):
    acme.fill(load_settings(settings_file, {}), encoder(), seed=0, answers=1)
    done = run(settings_file, "run")
    assert done.exit_code == 0, done.output
    assert "trained" in done.output
    assert "proposed" in done.output
    assert store.active() is None

    found = json.loads(run(settings_file, "status", "--json").output)
    assert found["waiting"] == found["events"][0]["router_version"]
    assert found["counts"] == {"trained": 1, "proposed": 1}

    approved = run(settings_file, "approve")
    assert approved.exit_code == 0, approved.output
    assert store.active() == found["waiting"]
    assert "activated by the operator" in run(settings_file, "status").output

    returned = run(settings_file, "rollback")
    assert "rolled_back by the operator" in returned.output
    assert store.active() not in {None, found["waiting"]}  # the packaged router
    again = run(settings_file, "approve")
    assert "was rolled back" in again.output


def test_says_that_nothing_is_due(settings_file):
    assert "no graded answer yet" in run(settings_file, "run").output
    assert "nothing is due" in run(settings_file, "run").output


def test_says_that_another_process_learns(settings_file):
    run(settings_file, "status")  # makes the database
    url = load_settings(settings_file, {}).database_url
    with closing(create_database_engine(url)) as engine:
        assert Lease(engine, LEARNER, "replica-2").take()
        done = run(settings_file, "run")
    assert done.exit_code == 1
    assert "another process learns now: replica-2" in done.output


def test_shows_an_empty_history(settings_file):
    output = run(settings_file, "status").output
    assert "active router: none was activated" in output
    assert "learner: none runs; see learning.enabled" in output


def test_shows_how_much_a_canary_decides_and_ends_it(settings_file):
    run(settings_file, "status")  # makes the database
    url = load_settings(settings_file, {}).database_url
    with closing(create_database_engine(url)) as engine:
        now, figures = datetime.now(UTC), {"share": 0.05, "salt": "s"}
        LearningEvents(engine).add(
            Event(now, "learner", "canary", "because", "new-1", "old-1", figures)
        )
    assert "canary: new-1 decides 0.05 of the turns" in run(settings_file, "status").output
    found = json.loads(run(settings_file, "status", "--json").output)
    assert found["canary"] == {"version": "new-1", "share": 0.05}
    assert (found["kept"], found["waiting"]) == (None, None)

    assert "rolled_back by the operator new-1" in run(settings_file, "rollback").output
    assert json.loads(run(settings_file, "status", "--json").output)["canary"] is None
