"""What a coordinator's process does for a session, with sites in this process."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.federation_simulation.in_process import InProcessGrid
from benchmarks.federation_simulation.simulation import align
from federation.deployment.sessions import SessionStore
from federation.errors import GrowthRefused, QuorumMissing
from federation.node.client_app import build_client_app
from gateway.federation.paths import ROUTER
from gateway.federation.router_sessions import train_router
from router_models.artifacts.artifact import read_manifest
from router_models.artifacts.registry import ModelRegistry
from tests.fakes.evaluations import MODELS
from tests.fakes.sites import plan_of, silence, site_of

NOW = datetime(2026, 11, 22, 22, 0, tzinfo=UTC)
OLD = MODELS[:3]


@pytest.fixture
def store(tmp_path) -> SessionStore:
    return SessionStore(tmp_path / "sessions")


def sites_with(models, places=range(4)):
    sites = [site_of(place) for place in places]
    none = ModelRegistry()
    return [replace(site, train=align(site.train, models, none)) for site in sites]


def conduct(store, sites, grow=None, *, hour=0, faults=None, **changes):
    """Do what the conductor does; returns the session as it is then on disk."""
    asked = store.ask("operator", NOW + timedelta(hours=hour), grow)
    session = store.begin(asked, run_id=1)
    nodes = {node: build_client_app(site) for node, site in enumerate(sites, start=1)}
    plan = plan_of(timeout_s=1.0, **changes)
    try:
        report = train_router(InProcessGrid(nodes, faults or {}), session, store, plan)
    except QuorumMissing as error:
        store.end(session, NOW, reason=str(error))
        raise
    return store.end(session, NOW, report=report, reason=None)


def manifest_of(store, session):
    return read_manifest((store.folder_of(session) / ROUTER).read_bytes())


def test_a_router_bears_the_date_on_which_it_was_asked_for(store):
    session = conduct(store, sites_with(OLD), hour=5)
    assert manifest_of(store, session).created_at == NOW + timedelta(hours=5)


def test_what_joins_starts_from_the_router_before(store):
    first = conduct(store, sites_with(OLD, range(2)))
    second = conduct(store, sites_with(OLD), "any", hour=1)
    third = conduct(store, sites_with(MODELS), "any", hour=2)
    assert [s.report["joined"] for s in (first, second, third)] == ["", "clients", "models"]
    assert manifest_of(store, third).models == tuple(sorted(OLD)) + MODELS[3:]
    assert manifest_of(store, third).parent == second.report["version"]
    assert manifest_of(store, second).parent == first.report["version"]
    assert third.report["sites"] == ["site-0", "site-1", "site-2", "site-3"]


def test_nothing_joins_where_there_is_no_router(store):
    with pytest.raises(GrowthRefused, match="no router yet"):
        conduct(store, sites_with(OLD), "models")


def test_nothing_joins_a_router_of_another_encoder(store):
    conduct(store, sites_with(OLD))
    other = replace(plan_of().encoder, sha256="cd" * 32)
    with pytest.raises(GrowthRefused, match="cannot join the router of session"):
        conduct(store, sites_with(OLD), "models", hour=1, encoder=other)


def test_what_sites_sent_for_a_session_that_failed_is_not_kept(store):
    def deaf(instruction, reply):
        is_last = instruction.metadata.message_type == "train.cells"
        return silence(instruction, reply) if is_last else reply

    with pytest.raises(QuorumMissing):
        conduct(store, sites_with(OLD, range(2)), faults={1: deaf})
    (session,) = store.list_all()
    assert [file.name for file in store.folder_of(session).iterdir()] == ["session.json"]


def test_a_session_that_failed_still_says_who_answered_what(store):
    with pytest.raises(QuorumMissing):
        conduct(store, sites_with(OLD, range(2)), faults={1: silence})
    (session,) = store.list_all()
    assert list(session.report["members"]) == ["site-1"]


def test_a_session_under_way_tells_of_the_rounds_so_far(store):
    seen = []

    def look(instruction, reply):
        seen.append(len(store.list_all()[0].report.get("rounds", ())))
        return reply

    session = conduct(store, sites_with(OLD, range(2)), faults={1: look})
    assert seen == sorted(seen)
    assert 0 < seen[-1] <= len(session.report["rounds"])
