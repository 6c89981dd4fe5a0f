"""Routers that predict tokens, judged by a site beside routers that predict USD."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from federation.node.gateway_site import GatewaySite
from gateway.artifacts.store import ArtifactStore
from gateway.evaluation_log.grades import GradeRecord
from gateway.federation.team_rows import TeamsRows
from gateway.storage.database import create_database_engine
from gateway.types import TurnRecord
from router_models.artifacts.artifact import dump, load
from router_models.evaluation.acceptance import AcceptanceCriteria
from router_models.training.settings import RidgeSettings
from router_models.training.train import train
from router_models.types import COMPLETION_MTOK, Evaluations, Unit
from tests.fakes.artifacts import EncoderIdentity
from tests.fakes.evaluations import DIMENSION, counted, made_up
from tests.fakes.logged import fill, records
from tests.fakes.schemas import with_schema

ENCODER = EncoderIdentity(dimension=DIMENSION)
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


def open_database(folder: Path, rows: Iterable[TurnRecord | GradeRecord]) -> Engine:
    engine = create_database_engine(f"sqlite:///{folder / 'waypost.db'}")
    with_schema(engine)
    asyncio.run(fill(engine, folder, iter(rows)))
    return engine


def site_of(engine: Engine, folder: Path) -> GatewaySite:
    return GatewaySite(
        name="acme",
        encoder=ENCODER,
        log=TeamsRows(engine, None),
        store=ArtifactStore(folder / "routers"),
        default_artifact=None,
        prices=np.geomspace(1.0, 100.0, 5),
        clock=lambda: NOON,
        criteria=AcceptanceCriteria(least_queries=60, draws=200),
    )


def in_usd(rows: Evaluations) -> bytes:
    """A router whose train rows answer other queries than theirs."""
    order = np.random.default_rng(0).permutation(len(rows.quality))
    wrong = replace(rows, quality=rows.quality[order], cost_usd=rows.cost_usd[order])
    trained = train(wrong, wrong, "ridge", 0, RidgeSettings())
    return dump(trained, ENCODER, created_at=NOON, training={}, provenance={})


IN_USD = in_usd(made_up(200, seed=7))


def of_tokens(rows: Evaluations) -> bytes:
    trained = train(counted(rows), counted(made_up(60, seed=5)), "ridge", 0, RidgeSettings())
    unit: Unit = COMPLETION_MTOK
    return dump(trained, ENCODER, created_at=NOON, training={}, provenance={}, unit=unit)


def test_routers_of_tokens_and_of_usd_are_compared_in_usd(tmp_path):
    log = records(counted(made_up(400, seed=1)), answers=2)
    engine = open_database(tmp_path, log)
    site = site_of(engine, tmp_path)
    assert site.receive(IN_USD).outcome == "activated"
    data = of_tokens(made_up(600, seed=4))
    verdict = site.receive(data)
    assert verdict.outcome == "activated", verdict.reason
    active = site.store.active()
    assert active is not None
    assert load(site.store.read(active), ENCODER).unit == COMPLETION_MTOK
    engine.dispose()


def test_a_router_of_tokens_is_refused_where_the_log_does_not_count_them(tmp_path):
    rows = list(records(made_up(400, seed=1), answers=2))
    uncounted = [r if isinstance(r, GradeRecord) else replace(r, usage=None) for r in rows]
    engine = open_database(tmp_path, iter(uncounted))
    site = site_of(engine, tmp_path)
    site.receive(IN_USD)
    before = site.store.active()
    verdict = site.receive(of_tokens(made_up(600, seed=4)))
    assert (verdict.outcome, site.store.active()) == ("refused", before)
    assert "these rows lack counts of prompt and completion tokens" in verdict.reason
    engine.dispose()
