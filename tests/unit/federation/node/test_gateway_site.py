import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from federation.node.gateway_site import GatewaySite
from federation.site import SitePolicy
from gateway.artifacts.active import ActiveRouter
from gateway.artifacts.store import ArtifactStore
from gateway.federation.team_rows import TeamsRows
from gateway.storage.database import create_database_engine
from router_models.artifacts.artifact import dump, load, read_manifest
from router_models.artifacts.registry import ModelRegistry
from router_models.errors import InvalidRegistry
from router_models.estimators.guard import Guard, GuardedEstimator
from router_models.estimators.mixture import MixtureEstimator
from router_models.evaluation.acceptance import AcceptanceCriteria
from router_models.training.guard import fit_guard
from router_models.training.kmeans import fit_kmeans
from router_models.training.ridge import fit_ridge
from router_models.training.settings import KMeansSettings, RidgeSettings
from router_models.types import Evaluations
from tests.fakes.artifacts import EncoderIdentity
from tests.fakes.evaluations import DIMENSION, MODELS, made_up
from tests.fakes.logged import fill, records
from tests.fakes.schemas import with_schema

ENCODER = EncoderIdentity(dimension=DIMENSION)
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
NO_ALIASES = ModelRegistry()
LOCAL_NAMES = {"coder": "eu-coder"}
OWN_NAMES = ModelRegistry({"coder": ["eu-coder"]})
BAR = AcceptanceCriteria(least_queries=60, draws=200)


def open_database(folder: Path, *rows) -> Engine:
    engine = create_database_engine(f"sqlite:///{folder / 'waypost.db'}")
    with_schema(engine)
    for one in rows:
        asyncio.run(fill(engine, folder, one))
    return engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """Two teams' queries, two models' answers to each, and a few of another encoder."""
    blue = records(made_up(60, seed=2), prefix="blue", team_id="blue", names=LOCAL_NAMES)
    own = records(made_up(400, seed=1), answers=2, names=LOCAL_NAMES)
    engine = open_database(tmp_path_factory.mktemp("site"), own, blue)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def small_engine(tmp_path_factory):
    engine = open_database(tmp_path_factory.mktemp("small"), records(made_up(40, seed=3)))
    yield engine
    engine.dispose()


@dataclass
class CountingRows:
    """The log, and how often it was read."""

    rows: TeamsRows
    reads: list[int] = field(default_factory=list)

    def latest(self, rows: int, encoder_id: str):
        self.reads.append(rows)
        return self.rows.latest(rows, encoder_id)


@pytest.fixture
def site_of(tmp_path) -> Callable[..., GatewaySite]:
    def build(engine: Engine, teams=None, **changes) -> GatewaySite:
        known: dict[str, Any] = {
            "name": "acme",
            "encoder": ENCODER,
            "log": CountingRows(TeamsRows(engine, teams)),
            "store": ArtifactStore(tmp_path / "routers"),
            "default_artifact": None,
            "prices": np.geomspace(1.0, 100.0, 5),
            "clock": lambda: NOON,
            "own_names": OWN_NAMES,
            "criteria": BAR,
        }
        return GatewaySite(**(known | changes))

    return build


@pytest.fixture
def site(site_of: Callable[..., GatewaySite], engine) -> GatewaySite:
    return site_of(engine)


def shuffled(rows: Evaluations) -> Evaluations:
    """The same answers to other queries."""
    order = np.random.default_rng(0).permutation(len(rows.quality))
    return replace(rows, quality=rows.quality[order], cost_usd=rows.cost_usd[order])


def artifact(rows: Evaluations, registry=None, encoder=ENCODER) -> bytes:
    estimator = fit_kmeans(rows, KMeansSettings(n_clusters=8), 0)
    guarded = GuardedEstimator(estimator, fit_guard(rows, rows, 0))
    return dump(guarded, encoder, created_at=NOON, training={}, provenance={}, registry=registry)


def version_of(data: bytes) -> str:
    return read_manifest(data).version


POOLED = made_up(1500, seed=11)
TRUSTING = SitePolicy(trusts_coordinator=True)


@cache
def good_artifact() -> bytes:
    return artifact(POOLED)


@cache
def bad_artifact() -> bytes:
    return artifact(shuffled(POOLED))


def test_rows_stand_under_the_names_of_the_federation(site):
    columns = ("dear", "coder")
    table = site.train_rows(columns, NO_ALIASES)
    assert table.models == columns
    assert np.isfinite(table.quality).sum(axis=0).min() > 100
    assert np.isfinite(table.quality).any(axis=1).all()


def test_answers_are_those_that_were_graded(site):
    truth = made_up(400, seed=1)
    known = {row.tobytes(): place for place, row in enumerate(truth.embeddings)}
    table = site.train_rows(MODELS, NO_ALIASES)
    places = [known.get(row.tobytes()) for row in table.embeddings]
    own = [row for row, place in enumerate(places) if place is not None]
    expected = truth.quality[[place for place in places if place is not None]]
    found = table.quality[own]
    assert (np.isfinite(found).sum(axis=1) == 2).all()
    np.testing.assert_array_equal(found[np.isfinite(found)], expected[np.isfinite(found)])


def test_no_query_is_both_learned_from_and_held_out(site_of, engine):
    site = site_of(engine, policy=TRUSTING)
    tables = [rows(MODELS, NO_ALIASES) for rows in (site.train_rows, site.held_out_rows)]
    seen = [{row.tobytes() for row in table.embeddings} for table in tables]
    assert not seen[0] & seen[1]
    assert 0.6 < len(seen[0]) / 460 < 0.8
    assert 0.05 < len(seen[1]) / 460 < 0.15


def test_only_teams_that_take_part_are_read(site_of, engine):
    sizes = [
        len(site_of(engine, teams, policy=TRUSTING).train_rows(MODELS, NO_ALIASES).quality)
        for teams in (None, ("default",), ("blue",), ())
    ]
    assert sizes[0] == sizes[1] + sizes[2]
    assert sizes[2] > 20
    assert sizes[3] == 0


def test_other_encoders_rows_are_not_read(site_of, engine):
    other = site_of(engine, encoder=replace(ENCODER, id="other-1"))
    assert len(other.train_rows(MODELS, NO_ALIASES).quality) == 0


def test_the_latest_rows_are_read_and_no_more(site_of, engine):
    site = site_of(engine, ("default",), most_rows=50)
    read = site.train_rows(MODELS, NO_ALIASES), site.held_out_rows(MODELS, NO_ALIASES)
    assert sum(np.isfinite(table.quality).sum() for table in read) <= 50
    latest = {row.tobytes() for row in made_up(400, seed=1).embeddings[-25:]}
    assert all(row.tobytes() in latest for table in read for row in table.embeddings)


def test_rows_are_read_once_a_session(site):
    site.profile(NO_ALIASES)
    for _ in range(3):
        site.train_rows(MODELS, NO_ALIASES)
        site.held_out_rows(MODELS, NO_ALIASES)
    assert len(site.log.reads) == 1
    site.profile(NO_ALIASES)
    assert len(site.log.reads) == 2


def test_says_what_there_is_to_learn_from(site):
    profile = site.profile(NO_ALIASES)
    assert (profile.name, profile.encoder_id, profile.dimension) == ("acme", ENCODER.id, DIMENSION)
    assert profile.models == tuple(sorted(MODELS))
    assert profile.rows == 512  # of about 600 answers to train on


def test_does_not_mention_models_of_few_rows(site_of, engine):
    site = site_of(engine, ("blue",), policy=SitePolicy(least_rows=1000))
    profile = site.profile(NO_ALIASES)
    assert (profile.models, profile.rows) == ((), 0)


def test_does_not_mention_private_models(site_of, engine):
    site = site_of(engine, private_models=frozenset({"eu-coder"}))
    profile = site.profile(NO_ALIASES)
    assert profile.models == ("cheap", "dear", "writer")
    assert profile.rows == 256  # of about 450 answers to train on


def test_a_name_of_another_model_is_an_error(site_of, engine):
    site = site_of(engine, own_names=ModelRegistry({"coder": ["dear"]}))
    with pytest.raises(InvalidRegistry, match="'dear' is an alias of 'coder'"):
        site.train_rows(MODELS, NO_ALIASES)


def test_the_first_router_serves_at_once(site):
    verdict = site.receive(good_artifact())
    assert verdict.outcome == "activated"
    assert site.store.active() == verdict.version
    assert site.store.assessment(verdict.version).reason == verdict.reason


def test_a_router_serves_under_this_gateways_own_names(site_of, small_engine):
    site = site_of(small_engine)
    verdict = site.receive(good_artifact())
    router = load(site.store.read(verdict.version), ENCODER)
    assert router.column("eu-coder") == router.column("coder") == MODELS.index("coder")


def test_a_router_without_other_names_is_kept_as_it_came(site_of, small_engine):
    site = site_of(small_engine, own_names=NO_ALIASES)
    assert site.receive(good_artifact()).version == version_of(good_artifact())
    assert site.store.read(version_of(good_artifact())) == good_artifact()


def test_a_better_router_takes_the_place_of_the_active_one(site):
    site.store.put(bad_artifact())
    site.store.activate(version_of(bad_artifact()))
    verdict = site.receive(good_artifact())
    assert verdict.outcome == "activated"
    assert site.store.active() == verdict.version != version_of(bad_artifact())
    assert verdict.figures["difference"] > 0
    assert site.store.rollback().version == version_of(bad_artifact())


async def test_the_gateway_follows_within_a_poll(site):
    serving = ActiveRouter(site.store, ENCODER)
    await serving.refresh()
    verdict = site.receive(good_artifact())
    assert await serving.refresh()
    assert serving.current is not None
    assert serving.current.version == verdict.version
    pool = serving.current.predict_pool(POOLED.embeddings[0], ("eu-coder", "cheap"))
    assert None not in pool.quality


def test_a_worse_router_is_kept_as_a_candidate_with_the_reason(site):
    site.store.put(good_artifact())
    site.store.activate(version_of(good_artifact()))
    verdict = site.receive(bad_artifact())
    assert (verdict.outcome, site.store.active()) == ("candidate", version_of(good_artifact()))
    assert "may lose more than" in verdict.reason
    assert site.store.activate(verdict.version).version == verdict.version


def test_a_router_that_is_poor_here_is_mixed_with_one_trained_here(site):
    verdict = site.receive(bad_artifact())
    assert verdict.version.startswith("mixture-")
    assert verdict.figures == {"answers": verdict.figures["answers"]}
    mixture = site.store.manifest(verdict.version)
    assert mixture.models == MODELS
    aside = site.store.assessment(mixture.parent)
    assert (aside.outcome, verdict.version in aside.reason) == ("candidate", True)


def test_few_rows_leave_the_active_router_in_place(site_of, small_engine):
    site = site_of(small_engine)
    site.store.put(bad_artifact())
    site.store.activate(version_of(bad_artifact()))
    verdict = site.receive(good_artifact())
    assert (verdict.outcome, site.store.active()) == ("candidate", version_of(bad_artifact()))
    assert "too few" in verdict.reason


def test_an_empty_log_takes_the_first_router_as_it_is(site_of, engine):
    site = site_of(engine, ())
    assert site.receive(good_artifact()).outcome == "activated"
    assert load(site.store.read(site.store.active()), ENCODER).estimator.kind == "kmeans"


def test_the_packaged_router_counts_for_none_where_it_knows_no_model_of_the_log(
    site_of, small_engine
):
    strange = artifact(replace(POOLED, models=("w", "x", "y", "z")))
    assert (
        site_of(small_engine, default_artifact=strange).receive(good_artifact()).outcome
        == "activated"
    )


def test_the_packaged_router_stays_where_there_are_too_few_rows(site_of, small_engine):
    site = site_of(small_engine, default_artifact=bad_artifact())
    assert (site.receive(good_artifact()).outcome, site.store.active()) == ("candidate", None)


def test_an_active_router_that_cannot_serve_counts_for_none(site):
    site.store.put(bad_artifact())
    site.store.activate(version_of(bad_artifact()))
    site.store.path(version_of(bad_artifact())).write_bytes(b"damaged")
    assert site.receive(good_artifact()).outcome == "activated"


def of_another_encoder() -> bytes:
    return artifact(POOLED, encoder=replace(ENCODER, id="other-1"))


def under_an_alias() -> bytes:
    return artifact(replace(POOLED, models=("cheap", "eu-coder", "writer", "dear")))


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: b"hello", "too short"),
        (lambda: good_artifact()[:-1] + b"!", "checksum"),
        (of_another_encoder, "trained on encoder other-1"),
        (under_an_alias, "'eu-coder' is an alias of 'coder'"),
    ],
)
def test_what_cannot_serve_here_is_not_kept(site, make, problem):
    verdict = site.receive(make())
    assert (verdict.outcome, verdict.version) == ("refused", None)
    assert problem in verdict.reason
    assert site.store.list_all() == ()


def test_a_router_that_predicts_nonsense_is_not_kept(site):
    good = load(good_artifact(), ENCODER)
    high = np.full(len(MODELS), 5.0, np.float32)
    known = good.guard
    assert known is not None
    guard = Guard(known.scaler, known.centroids, known.reach, 0.0, 0.01, high, high)
    guarded = GuardedEstimator(good.estimator, guard)
    data = dump(guarded, ENCODER, created_at=NOON, training={}, provenance={})
    verdict = site.receive(data)
    assert (verdict.outcome, verdict.reason) == ("refused", "it predicts qualities outside 0 to 1")
    assert site.store.list_all() == ()


def test_the_same_router_is_judged_once(site):
    first = site.receive(good_artifact())
    reads = len(site.log.reads)
    site.store.put(bad_artifact())
    site.store.activate(version_of(bad_artifact()))
    assert site.receive(good_artifact()) == site.receive(good_artifact())
    assert len(site.log.reads) == reads
    assert (first.outcome, site.store.active()) == ("activated", version_of(bad_artifact()))


def test_a_router_whose_judgement_was_cut_short_is_judged_again(site, monkeypatch):
    def die(self, version, assessment):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ArtifactStore, "note", die)
        with pytest.raises(KeyboardInterrupt):
            site.receive(good_artifact())
    verdict = site.receive(good_artifact())
    assert (verdict.outcome, site.store.active()) == ("activated", verdict.version)


def test_a_disk_that_cannot_be_written_is_a_reason(site_of, small_engine, tmp_path):
    (tmp_path / "file").write_text("in the way")
    site = site_of(small_engine, store=ArtifactStore(tmp_path / "file"))
    verdict = site.receive(good_artifact())
    assert verdict.outcome == "refused"
    assert "it cannot be stored" in verdict.reason


def test_old_candidates_make_room(site_of, small_engine):
    site = site_of(small_engine, keep=1)
    site.store.put(bad_artifact())
    site.store.activate(version_of(bad_artifact()))
    for seed in range(3):
        site.receive(artifact(made_up(200, seed=20 + seed)))
    assert len(site.store.list_all()) == 2


def test_every_kind_of_router_is_judged(site):
    ridge = fit_ridge(POOLED, RidgeSettings())
    half = np.full(len(MODELS), 0.5, np.float32)
    for each in (ridge, MixtureEstimator(ridge, ridge, half, half)):
        data = dump(each, ENCODER, created_at=NOON, training={}, provenance={})
        assert site.receive(data).outcome == "activated"
