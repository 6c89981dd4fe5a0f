import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from safetensors.numpy import load as load_safetensors

from router_models.artifacts.artifact import load
from router_models.artifacts.registry import ModelRegistry
from router_models.artifacts.router import Router, RouterManifest
from router_models.estimators.arrays import Scaler
from router_models.estimators.guard import Guard
from router_models.estimators.kmeans import CellStatistics, KMeansEstimator
from router_models.types import COMPLETION_MTOK, Estimator, Prediction
from tests.fakes.artifacts import ENCODER, router_artifact

MODELS = ("small", "large", "unseen")
NEAR = np.array([1.0, 0.0], np.float32)
FAR = np.array([-1.0, 0.0], np.float32)
OLDER = Path(__file__).parents[3] / "golden" / "routers" / "guard_without_kept.safetensors"
"""A router as it was stored before guards kept anything of unknown queries, and beside it what it
predicted where it was familiar, where all was unknown, and in between."""
MANIFEST = RouterManifest(
    format_version=1,
    kind="kmeans",
    encoder_id="static-cheap-1",
    encoder_sha256="ab" * 32,
    dimension=2,
    models=MODELS,
    has_guard=True,
    created_at=datetime(2026, 11, 3, tzinfo=UTC),
    training={},
    provenance={},
    parent=None,
    checksum="0123456789abcdef" * 4,
)


def statistics(n_rows=100) -> CellStatistics:
    """Rows of one cluster, of which `large` answers all and `small` half; nobody asked `unseen`."""
    half = (np.arange(n_rows) % 2).astype(np.float32)
    quality = np.stack([half, np.ones(n_rows), np.full(n_rows, np.nan)], axis=1)
    quality = quality.astype(np.float32)
    return CellStatistics.gather(
        np.zeros(n_rows, np.intp), quality, quality * np.float32(0.01), n_clusters=2
    )


@pytest.fixture
def estimator() -> KMeansEstimator:
    centroids = np.stack([NEAR, np.array([0.0, 1.0], np.float32)])
    ones = np.full(2, 0.1, np.float32)
    return KMeansEstimator(MODELS, Scaler.identity(2), centroids, ones, ones, statistics())


@pytest.fixture
def guard(estimator) -> Guard:
    means = np.array([0.5, 0.75, 0.25], np.float32)
    return Guard(estimator.scaler, estimator.centroids, estimator.radii, 1.0, 2.0, means, means)


def test_predicts_one_query_as_the_estimator_does(estimator):
    router = Router(MANIFEST, estimator, None)
    expected = estimator.predict(NEAR[None])
    found = router.predict(NEAR)
    np.testing.assert_array_equal(found.quality, expected.quality[0])
    np.testing.assert_array_equal(found.cost_usd, expected.cost_usd[0])
    assert found.familiarity == 1.0


def test_falls_back_on_the_global_means_far_from_the_train_rows(estimator, guard):
    router = Router(MANIFEST, estimator, guard)
    found = router.predict(FAR)
    assert found.familiarity == 0.0
    np.testing.assert_array_equal(found.quality, guard.quality_means)
    np.testing.assert_array_equal(found.cost_usd, guard.cost_means_usd)
    assert router.predict(NEAR).familiarity == 1.0


def test_predicts_a_pool_in_its_own_order(estimator):
    router = Router(MANIFEST, estimator, None)
    single = router.predict(NEAR)
    pool = router.predict_pool(NEAR, ("new", "large", "small"))
    assert pool.quality == (None, single.quality[1], single.quality[0])
    assert pool.cost_usd == (None, single.cost_usd[1], single.cost_usd[0])
    assert pool.familiarity == 1.0


def test_knows_its_version_and_models(estimator):
    router = Router(MANIFEST, estimator, None)
    assert router.version == "kmeans-20261103-0123456789ab"
    assert router.models == MODELS


def test_standard_errors_are_small_where_there_are_rows_and_large_where_there_are_none(estimator):
    stderr: Any = Router(MANIFEST, estimator, None).quality_stderr(NEAR, (*MODELS, "new"))
    small, large, unseen, new = stderr
    # 100 rows of deviation 0.5 give 0.05; a score nobody has seen has the deviation of a uniform.
    assert small == pytest.approx(0.05, rel=0.1)
    assert large < small < unseen
    assert unseen == pytest.approx(12**-0.5)
    assert new is None


def test_an_estimator_that_cannot_tell_has_no_standard_errors():
    class Constant:
        kind, models, dimension = "constant", MODELS, 2

        def predict(self, embeddings):
            return Prediction(embeddings, embeddings)

        def quality_stderr(self, embeddings):
            return None

    constant = cast("Estimator", Constant())
    assert Router(MANIFEST, constant, None).quality_stderr(NEAR, MODELS) is None


def test_asks_for_its_models_by_their_aliases_too(estimator):
    manifest = replace(MANIFEST, registry={"large": ["org/large", "big"]})
    router = Router(manifest, estimator, None)
    found = router.predict_pool(NEAR, ("big", "small", "large", "strange"))
    large = router.predict(NEAR).quality[1]
    assert found.quality == (large, router.predict(NEAR).quality[0], large, None)
    assert router.column("org/large") == 1
    assert router.registry == ModelRegistry({"large": ["big", "org/large"]})


def test_a_model_of_its_own_name_goes_before_an_alias(estimator):
    router = Router(replace(MANIFEST, registry={"large": ["small"]}), estimator, None)
    assert router.column("small") == 0


def test_what_serves_is_the_estimator_in_its_guard(estimator, guard):
    served = Router(MANIFEST, estimator, guard).serving_estimator
    far = np.stack([FAR, NEAR])
    np.testing.assert_array_equal(served.predict(far).quality[0], guard.quality_means)
    assert Router(MANIFEST, estimator, None).serving_estimator is estimator


def test_predicts_the_same_for_a_query_it_remembers(estimator, guard):
    router = Router(MANIFEST, estimator, guard)
    first = router.predict(NEAR)
    again = router.predict(NEAR.copy())
    np.testing.assert_array_equal(again.quality, first.quality)
    assert again.familiarity == first.familiarity


def test_a_query_of_another_team_is_predicted_again(estimator, guard):
    router = Router(MANIFEST, estimator, guard)
    first = router.predict_pool(NEAR, MODELS, "one team")
    second = router.predict_pool(NEAR, MODELS, "another")
    assert router.predict_pool(NEAR, MODELS, "one team") is first
    assert second == first
    assert second is not first


def test_tells_queries_apart_when_it_has_had_more_than_it_remembers(estimator, guard, monkeypatch):
    monkeypatch.setattr("router_models.artifacts.router.REMEMBERED_PREDICTIONS", 3)
    router = Router(MANIFEST, estimator, guard)
    angles = np.linspace(0.0, 3.0, 10)
    queries = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = [router.predict(query).quality for query in np.concatenate([queries, queries])]
    expected = [Router(MANIFEST, estimator, guard).predict(query).quality for query in queries]
    np.testing.assert_array_equal(found, expected * 2)


def test_an_artefact_says_what_its_amounts_count_unless_that_is_usd():
    assert load(router_artifact(unit=COMPLETION_MTOK), ENCODER).unit == COMPLETION_MTOK
    assert load(router_artifact(), ENCODER).unit == "usd"
    # As before there was another unit: versions of routers are digests of their bytes.
    assert b"unit" not in router_artifact()


@pytest.mark.parametrize("known", json.loads(OLDER.with_suffix(".json").read_text()))
def test_an_artefact_from_before_guards_kept_anything_predicts_as_it_did(known):
    router = load(OLDER.read_bytes(), ENCODER)
    assert "guard/kept" not in load_safetensors(OLDER.read_bytes())
    embedding = np.array(known["embedding"], np.float32)
    one, many = router.predict(embedding), router.serving_estimator.predict(embedding[None])
    assert one.familiarity == pytest.approx(known["familiarity"], abs=1e-6)
    np.testing.assert_allclose([one.quality, many.quality[0]], [known["quality"]] * 2, rtol=1e-6)
    np.testing.assert_allclose([one.cost_usd, many.cost_usd[0]], [known["cost_usd"]] * 2, rtol=1e-6)
