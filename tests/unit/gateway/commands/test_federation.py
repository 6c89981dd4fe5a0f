import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from federation.deployment.sessions import SessionStore
from federation.protocol.report import RoundReport, SessionReport
from federation.site import Verdict
from gateway.commands.federation import command
from gateway.settings.config import ConfigurationError

NOW = datetime(2026, 11, 22, 22, 0, tzinfo=UTC)


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    file = tmp_path / "waypost.toml"
    file.write_text(f'data_dir = "{tmp_path / "data"}"\n')
    return file


@pytest.fixture
def sessions(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path / "data" / "federation" / "sessions")


def run(settings_file: Path, name: str, *arguments: str) -> Result:
    return CliRunner().invoke(command, [name, "--config", str(settings_file), *arguments])


def refuse(settings_file: Path, name: str, table: str) -> str:
    """Return how a command complains about these settings."""
    with settings_file.open("a") as file:
        file.write(table)
    result = run(settings_file, name)
    assert isinstance(result.exception, ConfigurationError)
    return str(result.exception)


def test_one_command_makes_a_certificate_and_keys(settings_file, tmp_path):
    result = run(
        settings_file, "certificates", "--host", "127.0.0.1", "--node", "acme", "--node", "zenith"
    )

    assert result.exit_code == 0, result.output
    made = tmp_path / "data" / "federation" / "certificates"
    assert {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()} == {
        *("ca.crt", "ca.key", "server.crt", "server.key"),
        *("nodes/acme.pub", "nodes/zenith.pub", "node-keys/acme.key", "node-keys/zenith.key"),
    }


def test_a_site_can_make_its_own_key_elsewhere(settings_file, tmp_path):
    result = run(settings_file, "certificates", "--node", "acme", "--out", str(tmp_path / "own"))

    assert result.exit_code == 0, result.output
    assert (tmp_path / "own" / "node-keys" / "acme.key").exists()
    assert not (tmp_path / "own" / "ca.key").exists()


@pytest.mark.parametrize("name", ["../acme", "", "a/b", "x" * 65])
def test_a_node_name_that_is_no_file_name_is_refused(settings_file, name):
    result = run(settings_file, "certificates", "--node", name)

    assert result.exit_code == 2
    assert "name" in result.output


def test_certificates_for_nobody_are_not_made(settings_file):
    assert run(settings_file, "certificates").exit_code == 2


def test_a_coordinator_without_a_certificate_says_how_to_make_one(settings_file):
    assert "waypost federation certificates --host" in refuse(settings_file, "coordinator", "")


def test_a_misspelt_setting_of_training_stops_the_coordinator(settings_file):
    table = "[federation.coordinator]\ntraining = { cluster = 3 }\n"

    assert "'cluster'" in refuse(settings_file, "coordinator", table)


def test_settings_that_contradict_each_other_stop_the_coordinator(settings_file):
    table = '[federation.coordinator]\nsecure_sum = true\nrule = "median"\n'
    assert "federation.coordinator: " in refuse(settings_file, "coordinator", table)


def test_a_node_without_a_name_does_not_start(settings_file):
    assert "set name and coordinator" in refuse(settings_file, "join", "")


def test_a_node_without_its_key_says_who_makes_it(settings_file, tmp_path):
    authority = tmp_path / "ca.crt"
    authority.write_text("")
    table = (
        '[federation.node]\nname = "acme"\ncoordinator = "c.example:9443"\n'
        f'authority = "{authority}"\nprivate_key = "{tmp_path / "no.key"}"\n'
    )

    complaint = refuse(settings_file, "join", table)

    assert "federation.node.private_key: no file" in complaint
    assert "waypost federation certificates" in complaint


def test_a_node_that_insists_on_noise_does_not_tune(settings_file):
    table = (
        '[federation.node]\nname = "acme"\ncoordinator = "c.example:9443"\nepsilon = 1.0\n'
        '[federation.node.reasoner]\nmodel = "some/model"\n'
    )

    assert "adapters are sent without noise" in refuse(settings_file, "join", table)


def test_a_coordinator_that_cannot_tune_does_not_start(settings_file):
    table = '[federation.coordinator.reasoner]\nmodel = "some/model"\n'

    assert "public_prompts: required" in refuse(settings_file, "coordinator", table)


def test_tuning_is_asked_for_beside_a_router(settings_file, sessions):
    run(settings_file, "train", "--no-wait")

    result = run(settings_file, "train", "--no-wait", "--task", "reasoner")

    assert result.exit_code == 0, result.output
    assert [session.task for session in sessions.list_all()] == ["router", "reasoner"]


def test_nothing_joins_a_reasoning_model(settings_file, sessions):
    result = run(settings_file, "train", "--task", "reasoner", "--grow", "any")

    assert result.exit_code == 2
    assert sessions.list_all() == []


def test_a_training_is_asked_for_on_disk(settings_file, sessions):
    result = run(settings_file, "train", "--no-wait")

    assert result.exit_code == 0, result.output
    (session,) = sessions.list_all()
    assert (session.state, session.asked_by) == ("waiting", "operator")
    assert session.id in result.output


def test_status_shows_how_sessions_went(settings_file, sessions):
    report = SessionReport(
        refused={"7": "its encoder is another"},
        rounds=[RoundReport(1, "query.rows", ("acme",), {"liar": "not finite"}, ("late",), 4.21)],
        verdicts={"acme": Verdict("candidate", "kmeans-1", "it may lose")},
        unanswered={"late": "no answer in time"},
    )
    first = sessions.begin(sessions.ask("schedule", NOW), run_id=1)
    sessions.end(
        first,
        NOW,
        report={"version": "kmeans-1", "joined": "models", **asdict(report)},
        reason=None,
    )
    second = sessions.begin(sessions.ask("operator", datetime.now(UTC)), run_id=2)
    sessions.end(second, NOW, report={}, reason="1 of 2 sites answered")

    output = run(settings_file, "status").output

    assert f"{first.id}  finished  asked by schedule" in output
    for line in (
        "router kmeans-1, which models joined",
        "refused node 7: its encoder is another",
        "4.2 s  query.rows: acme",
        "without liar: not finite",
        "without late: no answer in time",
        "acme: candidate, it may lose",
        "late: no verdict, no answer in time",
    ):
        assert line in output
    assert "failed  asked by operator: 1 of 2 sites answered" in output


def test_status_without_a_session_says_how_to_ask_for_one(settings_file):
    assert "waypost federation train" in run(settings_file, "status").output


def test_what_may_join_a_router_is_asked_for_on_disk(settings_file, sessions):
    run(settings_file, "train", "--no-wait", "--grow", "models")

    (session,) = sessions.list_all()
    assert session.grow == "models"
    (shown,) = json.loads(run(settings_file, "status", "--json").stdout)
    assert (shown["id"], shown["grow"], shown["state"]) == (session.id, "models", "waiting")
    assert run(settings_file, "train", "--grow", "sites").exit_code == 2


def test_a_node_that_needs_secure_sums_must_say_with_whom(settings_file):
    table = '[federation.node]\nname = "acme"\ncoordinator = "c:1"\nneeds_secure_sum = true\n'
    assert "federation.node.members: required" in refuse(settings_file, "join", table)
