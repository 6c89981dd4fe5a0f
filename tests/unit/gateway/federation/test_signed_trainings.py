"""A coordinator signs what it publishes, and sites take nothing else where they trust its key."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from benchmarks.federation_simulation.in_process import InProcessGrid
from federation.deployment.sessions import SessionStore
from federation.node.client_app import build_client_app
from federation.node.gateway_site import GatewaySite
from federation.site import Site
from gateway.artifacts.store import ArtifactStore
from gateway.artifacts.trust import ANYBODY, Trust, read_signature
from gateway.federation.router_sessions import train_router
from router_models.artifacts.artifact import read_manifest
from router_models.artifacts.registry import ModelRegistry
from tests.fakes.artifacts import router_artifact
from tests.fakes.signing import FEDERATION, OPERATOR, STRANGER, key_file, signed, trust_in
from tests.fakes.sites import ENCODER, plan_of, site_of

NOW = datetime(2026, 11, 22, 22, 0, tzinfo=UTC)
ROUTER = router_artifact()
VERSION = read_manifest(ROUTER).version
NOT_SIGNED, SIGNED = None, signed(FEDERATION, VERSION, ROUTER)


def kept(folder) -> ArtifactStore:
    """Look at what a site keeps."""
    return ArtifactStore(folder / "routers")


class EmptyLog:
    """A log without rows: whatever router comes first is better than none."""

    def latest(self, rows, encoder_id):
        return iter(())


def gateway_site(folder, trust: Trust, **changes) -> GatewaySite:
    """A site that judges and keeps routers as a gateway's node does."""
    encoder = changes.pop("encoder", replace(ENCODER, dimension=4))
    return GatewaySite(
        name="site-0",
        encoder=encoder,
        log=EmptyLog(),
        store=ArtifactStore(folder / "routers", trust),
        default_artifact=None,
        prices=np.geomspace(1.0, 100.0, 5),
        clock=lambda: NOW,
        **changes,
    )


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        (NOT_SIGNED, "it is not signed"),
        (signed(STRANGER, VERSION, ROUTER), "a key that artifacts.trusted_keys does not have"),
        (signed(FEDERATION, VERSION, b"another router"), "does not match"),
    ],
)
def test_a_site_refuses_a_router_that_its_federation_did_not_sign(tmp_path, signature, reason):
    site = gateway_site(tmp_path, trust_in(FEDERATION))
    verdict = site.receive(ROUTER, signature)
    assert (verdict.outcome, verdict.version) == ("refused", None)
    assert reason in verdict.reason
    assert not kept(tmp_path).folder.exists()


def test_a_router_that_was_accepted_once_is_not_taken_again_without_a_signature(tmp_path):
    site = gateway_site(tmp_path, trust_in(FEDERATION))
    assert site.receive(ROUTER, SIGNED).outcome == "activated"
    assert site.receive(ROUTER, NOT_SIGNED).outcome == "refused"


def test_a_site_keeps_the_signature_beside_the_router(tmp_path):
    site = gateway_site(tmp_path, trust_in(FEDERATION))
    assert site.receive(ROUTER, SIGNED).version == VERSION
    assert read_signature(kept(tmp_path).path(VERSION)) == SIGNED
    assert site.store.active() == VERSION


def test_a_site_without_keys_takes_what_comes_as_before(tmp_path):
    site = gateway_site(tmp_path, ANYBODY)
    assert site.receive(ROUTER).outcome == "activated"
    assert read_signature(kept(tmp_path).path(VERSION)) is None


def test_a_router_under_a_sites_own_names_is_signed_by_the_site(tmp_path):
    names = ModelRegistry({"small": ["tiny"]})
    trust = trust_in(FEDERATION, OPERATOR, signing_key=key_file(tmp_path, OPERATOR))
    site = gateway_site(tmp_path, trust, own_names=names)

    verdict = site.receive(ROUTER, SIGNED)

    assert verdict.outcome == "activated"
    assert verdict.version != VERSION
    assert site.store.active() == verdict.version


def test_without_a_key_of_its_own_a_site_says_why_it_cannot_rename_a_router(tmp_path):
    names = ModelRegistry({"small": ["tiny"]})
    verdict = gateway_site(tmp_path, trust_in(FEDERATION), own_names=names).receive(ROUTER, SIGNED)
    assert verdict.outcome == "refused"
    assert "set artifacts.signing_key" in verdict.reason


def train(tmp_path, coordinator: Trust, site: GatewaySite):
    """Train with three sites that have rows and one that only judges what comes out."""
    sessions = SessionStore(tmp_path / "sessions")
    session = sessions.begin(sessions.ask("operator", NOW, None), run_id=1)
    nodes: list[Site] = [site, *(site_of(place) for place in range(1, 4))]
    apps = {number: build_client_app(node) for number, node in enumerate(nodes, start=1)}
    grid = InProcessGrid(apps, {})
    return train_router(grid, session, sessions, plan_of(timeout_s=1.0), coordinator)


def test_what_a_coordinator_with_a_key_publishes_serves_at_a_site_that_trusts_it(tmp_path):
    site = gateway_site(tmp_path, trust_in(FEDERATION), encoder=ENCODER)
    coordinator = Trust(signing_key=key_file(tmp_path, FEDERATION))

    report = train(tmp_path, coordinator, site)

    assert report["verdicts"]["site-0"]["outcome"] == "activated"
    assert site.store.active() == report["version"]


@pytest.mark.parametrize("key", [None, STRANGER])
def test_what_another_coordinator_publishes_does_not(tmp_path, key):
    site = gateway_site(tmp_path, trust_in(FEDERATION), encoder=ENCODER)
    coordinator = ANYBODY if key is None else Trust(signing_key=key_file(tmp_path, key))

    report = train(tmp_path, coordinator, site)

    assert report["verdicts"]["site-0"]["outcome"] == "refused"
    assert site.store.active() is None
