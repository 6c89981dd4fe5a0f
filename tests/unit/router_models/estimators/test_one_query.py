import numpy as np
import pytest

from router_models.estimators.guard import GuardedEstimator
from router_models.estimators.kmeans import KMeansEstimator
from router_models.estimators.one_query import OneQuery
from router_models.training.settings import KMeansSettings
from router_models.training.train import train
from tests.fakes.evaluations import DIMENSION, made_up


@pytest.fixture(params=[False, True], ids=["raw", "standardized"])
def guarded(request) -> GuardedEstimator:
    settings = KMeansSettings(n_clusters=6, standardized=request.param)
    return train(made_up(), made_up(60, seed=1), "kmeans", 0, settings)


@pytest.fixture
def one_query(guarded) -> OneQuery:
    assert isinstance(guarded.estimator, KMeansEstimator)
    return OneQuery.from_estimator(guarded.estimator, guarded.guard)


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
