from dataclasses import replace

import pytest

from benchmarks.federation_simulation.in_process import InProcessGrid
from benchmarks.federation_simulation.simulation import LONG_AGO, MemoryCheckpoints, simulate
from federation.coordinator.checkpoint import dump
from federation.coordinator.nodes import POLL_S
from federation.coordinator.session import Session
from federation.coordinator.strategies import Progress
from federation.errors import QuorumMissing
from federation.node.client_app import build_client_app
from router_models.artifacts.artifact import read_manifest
from tests.fakes.sites import plan_of, site_of, sites_of


class LateGrid(InProcessGrid):
    """Another node connects whenever somebody waits."""

    def __init__(self, apps):
        super().__init__({})
        self.coming = apps

    def sleep(self, seconds):
        super().sleep(seconds)
        if self.coming:
            self.nodes[len(self.nodes) + 1] = self.coming.pop()


def session_on(grid, plan, checkpoints=None):
    return Session(grid, plan, checkpoints or MemoryCheckpoints(), grid.clock, grid.sleep)


def test_waits_for_a_quorum_to_connect():
    grid = LateGrid([build_client_app(site) for site in sites_of(3)])
    began_s = grid.clock()
    result = session_on(grid, plan_of(quorum=3)).run(LONG_AGO)
    assert set(result.report.members) == {"site-0", "site-1", "site-2"}
    assert grid.clock() - began_s >= 3 * POLL_S


def test_does_not_wait_for_ever():
    grid = InProcessGrid({1: build_client_app(site_of(0))})
    with pytest.raises(QuorumMissing, match="1 sites gave accepted answers, the quorum is 2"):
        session_on(grid, plan_of(timeout_s=60.0)).run(LONG_AGO)


def test_says_who_was_refused_where_that_is_why_the_quorum_is_missing():
    foreign = replace(site_of(1), encoder=replace(site_of(1).encoder, id="mpnet-1"))
    with pytest.raises(QuorumMissing, match="node 2: its rows hold vectors of encoder mpnet-1"):
        simulate([site_of(0), foreign], plan_of())


def test_a_session_that_failed_leaves_its_checkpoint():
    checkpoints = MemoryCheckpoints()
    faults = {2: lambda i, r: None if i.metadata.message_type == "train.cells" else r}
    with pytest.raises(QuorumMissing):
        simulate(sites_of(2), plan_of(), faults=faults, checkpoints=checkpoints)
    resumed = simulate(sites_of(2), plan_of(), checkpoints=checkpoints)
    assert resumed.report.rounds[0].exchange == "train.cells"
    assert resumed.artifact == simulate(sites_of(2), plan_of()).artifact


@pytest.mark.parametrize(
    "stale",
    [b"damaged", dump(plan_of(seed=8), Progress(2, {})), dump(plan_of("ridge"), Progress(2, {}))],
)
def test_begins_anew_where_a_checkpoint_cannot_be_used(stale, caplog):
    result = simulate(sites_of(2), plan_of(), checkpoints=MemoryCheckpoints(stale))
    assert result.artifact == simulate(sites_of(2), plan_of()).artifact
    assert "the training starts over" in caplog.text


def test_a_session_that_was_killed_before_publishing_publishes():
    plan = plan_of()
    whole = simulate(sites_of(2), plan)
    checkpoints = MemoryCheckpoints(dump(whole.plan, whole.progress))
    resumed = simulate(sites_of(2), plan, checkpoints=checkpoints)
    assert resumed.report.rounds == []
    assert resumed.artifact == whole.artifact
    assert len(resumed.report.verdicts) == 2


def test_sites_without_a_row_make_no_router():
    empty = [
        replace(site, train=replace(site.train, quality=nothing, cost_usd=nothing))
        for site in sites_of(2)
        for nothing in [site.train.quality * float("nan")]
    ]
    with pytest.raises(QuorumMissing, match="no site has rows of any model"):
        simulate(empty, plan_of())


def test_the_artefact_says_what_it_was_trained_on_and_names_no_site():
    manifest = read_manifest(simulate(sites_of(3), plan_of("mlp")).artifact)
    assert manifest.provenance == {
        "sites": 3,
        "train_queries": 60 + 80 + 100,
        "train_evaluations": 4 * (60 + 80 + 100),
        "models": 4,
    }
    assert manifest.training["best_round"] in {2, 3, 4}
    assert manifest.has_guard
    assert "site-" not in str(manifest)


def test_every_site_gets_the_router():
    result = simulate(sites_of(3), plan_of())
    versions = {verdict.version for verdict in result.report.verdicts.values()}
    assert versions == {read_manifest(result.artifact).version}
    assert len(result.report.verdicts) == 3
