"""Whole sessions over the databases of gateways."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from benchmarks.federation_simulation.simulation import simulate
from federation.node.gateway_site import GatewaySite
from gateway.artifacts.store import ArtifactStore
from gateway.federation.team_rows import TeamsRows
from gateway.storage.database import create_database_engine
from router_models.artifacts.artifact import dump, load
from router_models.artifacts.registry import ModelRegistry
from router_models.artifacts.router import Router
from router_models.evaluation.acceptance import AcceptanceCriteria
from router_models.evaluation.frontier import oracle_gain
from router_models.training.kmeans import fit_kmeans
from router_models.training.settings import KMeansSettings
from router_models.types import Evaluations, Prediction
from tests.fakes.evaluations import MODELS, made_up
from tests.fakes.logged import fill, records
from tests.fakes.schemas import with_schema
from tests.fakes.sites import ENCODER, plan_of

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
PRICES = np.geomspace(1.0, 100.0, 5)
SHARED_NAMES = ModelRegistry({"coder": ["code-1"], "writer": ["write-1"]})
GATEWAYS: tuple[tuple[dict[str, str], ModelRegistry, int], ...] = (
    # What each calls its models, what of that only it knows, and how many queries it has seen.
    ({}, ModelRegistry(), 500),
    ({"coder": "code-1", "writer": "write-1"}, ModelRegistry(), 300),
    ({"coder": "eu-coder"}, ModelRegistry({"coder": ["eu-coder"]}), 300),
)
TRUTH = made_up(500, seed=99)


def local_router(site: GatewaySite, names: tuple[str, ...]) -> bytes:
    """What `waypost train` would make of this gateway's log alone, under its own names."""
    rows = replace(site.train_rows(MODELS, SHARED_NAMES), models=names)
    estimator = fit_kmeans(rows, KMeansSettings(n_clusters=8), 0)
    return dump(estimator, ENCODER, created_at=NOON, training={}, provenance={})


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    engines = []
    for number, (names, _, queries) in enumerate(GATEWAYS):
        folder = tmp_path_factory.mktemp(f"gateway{number}")
        engines.append(create_database_engine(f"sqlite:///{folder / 'waypost.db'}"))
        with_schema(engines[-1])
        rows = records(made_up(queries, seed=number), names=names, seed=number)
        asyncio.run(fill(engines[-1], folder, rows))
    yield engines
    for engine in engines:
        engine.dispose()


@pytest.fixture
def sites(databases, tmp_path: Path) -> list[GatewaySite]:
    """Gateways with a router of their own that serves."""
    sites = []
    for number, (names, own_names, _) in enumerate(GATEWAYS):
        site = GatewaySite(
            name=f"gateway-{number}",
            encoder=ENCODER,
            log=TeamsRows(databases[number], None),
            store=ArtifactStore(tmp_path / str(number)),
            default_artifact=None,
            prices=PRICES,
            clock=lambda: NOON,
            own_names=own_names,
            criteria=AcceptanceCriteria(least_effective_rows=12, tolerance=0.05, draws=200),
        )
        local = local_router(site, tuple(names.get(model, model) for model in MODELS))
        site.store.activate(site.store.put(local).version)
        sites.append(site)
    return sites


def active(site: GatewaySite) -> Router:
    version = site.store.active()
    assert version is not None
    return load(site.store.read(version), ENCODER)


def gain(router: Router, truth: Evaluations, names) -> float:
    """Share of the oracle's gain with which a gateway routes, by its own names of models."""
    pool = tuple(names.get(model, model) for model in truth.models)
    rows = [router.predict_pool(row, pool) for row in truth.embeddings]
    quality, cost = zip(*((row.quality, row.cost_usd) for row in rows), strict=True)
    prediction = Prediction(np.array(quality, np.float32), np.array(cost, np.float32))
    return oracle_gain(prediction, truth, PRICES)


def gains(sites: list[GatewaySite]) -> list[float]:
    pairs = zip(sites, GATEWAYS, strict=True)
    return [gain(active(site), TRUTH, names) for site, (names, *_) in pairs]


def test_gateways_that_learn_together_route_better_than_alone(sites):
    before = gains(sites)
    result = simulate(sites, replace(plan_of("kmeans"), registry=SHARED_NAMES))
    after = gains(sites)
    assert result.plan.columns == tuple(sorted(MODELS))
    assert [site.store.assessment(site.store.active()).outcome for site in sites] == [
        "activated"
    ] * 3
    assert np.mean(after) > np.mean(before) + 0.05
    assert (np.array(after) > np.array(before) - 0.02).all()


def test_a_router_that_learned_too_little_serves_nobody_worse(sites):
    sites = [replace(site, criteria=replace(site.criteria, tolerance=0.0)) for site in sites]
    before = gains(sites)
    simulate(sites, replace(plan_of("mlp"), registry=SHARED_NAMES))
    assert (np.array(gains(sites)) > np.array(before) - 0.02).all()
