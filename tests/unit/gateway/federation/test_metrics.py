import os
import re
import urllib.error
import urllib.request
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from federation.deployment.sessions import SessionStore
from federation.deployment.supervisor import ChildProcess, Supervisor
from federation.privacy.accounting import PrivacyAccount
from federation.protocol.report import RoundReport, SessionReport
from federation.site import Verdict
from gateway.artifacts.store import ArtifactStore
from gateway.federation.metrics import exposed, read_children, read_node, read_sessions
from gateway.federation.paths import ROUTER
from gateway.telemetry.families import Read
from gateway.telemetry.series import Reading, render
from router_models.artifacts.assessment import Assessment
from tests.fakes.artifacts import router_artifact
from tests.fakes.scrape import Scrape

NOW = datetime(2026, 11, 22, 22, 0, tzinfo=UTC)
REPORT = SessionReport(
    members={"acme": None, "liar": None, "late": None},
    refused={"7": "its encoder is another"},
    rounds=[
        RoundReport(1, "query.rows", ("acme",), {"liar": "not finite"}, ("late",), 4.0),
        RoundReport(2, "query.rows", ("acme", "late"), {"liar": "not finite"}, (), 2.0),
    ],
    verdicts={"acme": Verdict("candidate", "kmeans-1", "it may lose")},
    unanswered={"late": "no answer in time"},
)
PAGE = Path(__file__).resolve().parents[4] / "docs" / "reference" / "metrics.md"


@pytest.fixture
def sessions(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path / "sessions")


@pytest.fixture
def children(tmp_path: Path) -> Supervisor:
    return Supervisor((ChildProcess("conductor", "module:name", tmp_path / "log"),), print)


def read(*reads: Read) -> Scrape:
    registry = CollectorRegistry()
    for each in reads:
        registry.register(Reading(each))
    return Scrape.parse(render(registry).decode())


def test_a_session_that_ended_well_is_shown_with_its_rounds(sessions):
    begun = sessions.begin(sessions.ask("schedule", NOW), run_id=1)
    sessions.end(begun, NOW, report={"version": "kmeans-1", **asdict(REPORT)}, reason=None)

    seen = read(read_sessions(sessions))

    assert seen.sum("waypost_federation_sessions", state="finished") == 1
    assert seen.sum("waypost_federation_last_session_state", state="finished") == 1
    assert seen.sum("waypost_federation_last_finished_timestamp_seconds") == NOW.timestamp()
    assert seen.sum("waypost_federation_rounds") == 2
    assert seen.sum("waypost_federation_round_duration_seconds", exchange="query.rows") == 6.0
    assert seen.sum("waypost_federation_answers", site="acme", result="accepted") == 2
    assert seen.sum("waypost_federation_answers", site="liar", result="rejected") == 2
    assert seen.sum("waypost_federation_answers", site="late", result="silent") == 1
    assert seen.sum("waypost_federation_members") == 3
    assert seen.sum("waypost_federation_refused_nodes") == 1
    assert seen.sum("waypost_federation_verdicts", outcome="candidate") == 1
    assert seen.sum("waypost_federation_verdicts", outcome="unanswered") == 1


def test_a_failed_session_does_not_hide_when_one_last_ended_well(sessions):
    first = sessions.begin(sessions.ask("schedule", NOW), run_id=1)
    sessions.end(first, NOW, report=asdict(REPORT), reason=None)
    second = sessions.begin(sessions.ask("operator", datetime.now(UTC)), run_id=2)
    sessions.end(second, datetime.now(UTC), report={}, reason="1 of 2 sites answered")

    seen = read(read_sessions(sessions))

    assert seen.sum("waypost_federation_last_session_state", state="failed") == 1
    assert seen.sum("waypost_federation_last_session_state") == 1
    assert seen.sum("waypost_federation_last_finished_timestamp_seconds") == NOW.timestamp()
    assert seen.sum("waypost_federation_rounds") == 0


def test_a_session_under_way_has_no_end(sessions):
    sessions.begin(sessions.ask("schedule", NOW), run_id=1)
    names = {name for name, _ in read(read_sessions(sessions)).series}

    assert "waypost_federation_last_session_asked_timestamp_seconds" in names
    assert "waypost_federation_last_session_ended_timestamp_seconds" not in names


def test_the_loss_is_that_of_the_newest_router_that_has_one(sessions):
    begun = sessions.begin(sessions.ask("schedule", NOW), run_id=1)
    training = {"losses": {"1": 0.5, "2": 0.25}, "best_round": 2}
    (sessions.folder_of(begun) / ROUTER).write_bytes(router_artifact(training=training))
    sessions.end(begun, NOW, report={}, reason=None)
    later = sessions.begin(sessions.ask("operator", datetime.now(UTC)), run_id=2)
    (sessions.folder_of(later) / ROUTER).write_bytes(b"torn")
    latest = sessions.begin(sessions.ask("restart", datetime.now(UTC)), run_id=3)
    os.mkfifo(sessions.folder_of(latest) / ROUTER)

    assert read(read_sessions(sessions)).sum("waypost_federation_loss") == 0.25


def test_a_node_shows_its_verdicts_and_what_is_left_of_its_privacy(tmp_path):
    store = ArtifactStore(tmp_path / "routers")
    version = store.put(router_artifact()).version
    store.note(version, Assessment("candidate", "it may lose", NOW))
    account = PrivacyAccount(tmp_path / "privacy.json", 3.0, 1e-5)

    seen = read(read_node(store, account))

    assert seen.sum("waypost_federation_node_routers", outcome="candidate") == 1
    assert seen.sum("waypost_federation_node_routers") == 1
    name = "waypost_federation_node_last_verdict_timestamp_seconds"
    assert seen.sum(name, outcome="candidate") == NOW.timestamp()
    assert seen.sum("waypost_federation_node_epsilon_spent") == 0.0
    assert seen.sum("waypost_federation_node_epsilon_limit") == 3.0


def test_every_metric_of_a_federation_is_documented_and_there(tmp_path, sessions, children):
    store = ArtifactStore(tmp_path / "routers")
    reads = read_children({"conductor": children}), read_sessions(sessions), read_node(store, None)

    page = PAGE.read_text().partition("## Federation")[2]
    told, rows = read(*reads).help, dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", page, re.M))
    assert told.keys() == rows.keys()
    assert {name for name in told if told[name] not in rows[name]} == set()


def test_a_scrape_of_the_port_shows_what_is_so_now(children):
    with exposed("127.0.0.1", 0, read_children({"conductor": children})) as url:
        assert url is not None
        children.restarts = 2
        page = urllib.request.urlopen(url).read().decode()

    seen = Scrape.parse(page)
    assert seen.sum("waypost_federation_child_restarts_total", child="conductor") == 2
    assert seen.sum("waypost_federation_child_up", child="conductor") == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url)


def test_without_a_port_nothing_listens(children):
    with exposed("127.0.0.1", None, read_children({"conductor": children})) as url:
        assert url is None
