import numpy as np
import pytest

from router_models.estimators.guard import GuardedEstimator
from router_models.estimators.mixture import MixtureEstimator
from router_models.estimators.one_query import OneQuery
from router_models.training.settings import AverageSettings, KMeansSettings, RidgeSettings
from router_models.training.train import train
from tests.fakes.evaluations import DIMENSION, made_up

RAW, SCALED = KMeansSettings(n_clusters=6), KMeansSettings(n_clusters=6, standardized=True)
AVERAGE = AverageSettings((RAW, RidgeSettings(alpha=3.0)))


@pytest.fixture(params=[RAW, SCALED, AVERAGE], ids=["raw", "standardized", "average"])
def guarded(request) -> GuardedEstimator:
    return train(made_up(), made_up(60, seed=1), "kmeans", 0, request.param)


@pytest.fixture
def one_query(guarded) -> OneQuery:
    folded = OneQuery.from_estimator(guarded.estimator, guarded.guard)
    assert folded is not None
    return folded


def mixed_queries() -> np.ndarray:
    """Queries like those trained on, blends of them, and noise that the guard never saw."""
    known = made_up(100, seed=2).embeddings
    strange = np.random.default_rng(3).standard_normal((100, DIMENSION)).astype(np.float32)
    return np.concatenate([known, 0.5 * (known + strange), strange, np.zeros((1, DIMENSION))])


def test_predicts_what_the_guarded_estimator_predicts(guarded, one_query):
    queries = mixed_queries().astype(np.float32)
    expected, familiarity = guarded.predict_with_familiarity(queries)
    rows = [one_query.predict(query) for query in queries]
    wanted = np.concatenate([expected.quality, expected.cost_usd], axis=1)
    np.testing.assert_allclose([row.figures for row in rows], wanted, atol=2e-5)
    np.testing.assert_allclose([row.familiarity for row in rows], familiarity, atol=2e-5)


def test_the_guard_compared_keeps_quality_and_cost_to_different_shares(guarded):
    kept = guarded.guard.kept_quality, guarded.guard.kept_cost
    assert kept[0] != kept[1]
    assert min(kept) > 0


def test_the_guard_compared_calibrates(guarded):
    assert guarded.guard.calibration.slope != 1.0


def test_the_queries_compared_are_familiar_strange_and_in_between(guarded):
    familiarity = guarded.familiarity(mixed_queries().astype(np.float32))
    assert (familiarity == 0).any()
    assert (familiarity == 1).any()
    assert ((familiarity > 0) & (familiarity < 1)).any()


def test_leaves_the_query_it_is_asked_about_alone(one_query):
    query = made_up(1).embeddings[0]
    before = query.copy()
    one_query.predict(query)
    np.testing.assert_array_equal(query, before)


def test_keeps_the_shares_that_each_model_has_of_its_own():
    rows = made_up(60, seed=1)
    guarded = train(made_up(), rows, "kmeans", 0, AVERAGE)
    average = guarded.estimator
    assert isinstance(average, MixtureEstimator)
    shares = [np.array(share, np.float32) for share in ((0, 0.2, 0.7, 1), (1, 0.5, 0.1, 0))]
    mixed = GuardedEstimator(
        MixtureEstimator(average.local, average.shared, *shares), guarded.guard
    )
    folded = OneQuery.from_estimator(mixed.estimator, mixed.guard)
    assert folded is not None
    expected = mixed.predict(rows.embeddings)
    wanted = np.concatenate([expected.quality, expected.cost_usd], axis=1)
    found = [folded.predict(row).figures for row in rows.embeddings]
    np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize("settings", [RidgeSettings(), AverageSettings((RidgeSettings(), RAW))])
def test_other_estimators_are_not_folded(settings):
    guarded = train(made_up(60), made_up(60, seed=1), "", 0, settings)
    assert OneQuery.from_estimator(guarded.estimator, guarded.guard) is None
