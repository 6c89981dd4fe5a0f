"""Standard errors of predicted quality, held against worlds whose means are known."""

from dataclasses import dataclass

import numpy as np
import pytest

from router_models.estimators.guard import GuardedEstimator
from router_models.estimators.mixture import MixtureEstimator
from router_models.training.settings import (
    AverageSettings,
    KMeansSettings,
    KnnSettings,
    MlpSettings,
    RidgeSettings,
)
from router_models.training.train import fit, train
from router_models.types import Estimator, Evaluations, Float32
from tests.fakes.evaluations import made_up

MODELS = ("a", "b", "c", "never asked")
TOPICS, DIMENSION = 12, 16
KMEANS, RIDGE = KMeansSettings(TOPICS, prior_rows=3.0), RidgeSettings(10.0)
KINDS = [KMEANS, RIDGE, KnnSettings(24, prior_rows=3.0), AverageSettings((KMEANS, RIDGE))]


@dataclass(frozen=True)
class World:
    """Topics, each a direction of its own, and how well each model does there."""

    topics: Float32
    means: Float32
    log: Evaluations

    @classmethod
    def drawn(cls, n_rows: int, seed: int) -> "World":
        """Draw a log of one answer a query."""
        rng = np.random.default_rng(seed)
        topics = 3.0 * np.eye(TOPICS, DIMENSION)
        means = np.clip(0.5 + 0.2 * rng.standard_normal((TOPICS, 4)), 0.02, 0.98)
        topic, asked = rng.integers(0, TOPICS, n_rows), rng.integers(0, 3, n_rows)
        embeddings = topics[topic] + 0.05 * rng.standard_normal((n_rows, DIMENSION))
        quality = np.full((n_rows, 4), np.nan, np.float32)
        cost = quality.copy()
        at = np.arange(n_rows), asked
        quality[at], cost[at] = rng.random(n_rows) < means[topic, asked], 0.001
        log = Evaluations(embeddings.astype(np.float32), quality, cost, MODELS)
        return cls(topics.astype(np.float32), means.astype(np.float32), log)


def stderr_of(estimator: Estimator, embeddings: Float32) -> Float32:
    stderr = estimator.quality_stderr(embeddings)
    assert stderr is not None
    return stderr


@pytest.mark.parametrize("n_rows", [200, 2000])
@pytest.mark.parametrize("settings", KINDS, ids=["kmeans", "ridge", "knn", "average"])
def test_intervals_hold_the_true_mean_about_as_often_as_they_say(settings, n_rows):
    held = []
    for seed in range(6):
        world = World.drawn(n_rows, seed)
        estimator = fit(world.log, world.log, settings, 0)
        stderr = stderr_of(estimator, world.topics)
        off = estimator.predict(world.topics).quality - world.means
        held.append(np.abs(off[:, :3]) <= 1.96 * stderr[:, :3])
    assert 0.85 < np.mean(held) < 0.995


@pytest.mark.parametrize("settings", [KMEANS, RIDGE], ids=["kmeans", "ridge"])
def test_more_rows_make_a_prediction_surer_and_none_leave_all_open(settings):
    few, many = (
        stderr_of(fit(world.log, world.log, settings, 0), world.topics)
        for world in (World.drawn(200, 0), World.drawn(8000, 0))
    )
    assert many[:, :3].mean() < 0.6 * few[:, :3].mean()
    assert many[:, 3] == pytest.approx(12**-0.5, rel=0.01)


def test_a_query_between_clusters_that_differ_is_less_sure_than_one_within():
    world = World.drawn(8000, 0)
    kmeans = fit(world.log, world.log, KMEANS, 0)
    apart = int(np.abs(world.means[1:, 0] - world.means[0, 0]).argmax()) + 1
    within, between = world.topics[:1], world.topics[:1] + world.topics[apart : apart + 1]
    assert stderr_of(kmeans, between)[0, 0] > 3 * stderr_of(kmeans, within)[0, 0]


def test_a_guard_changes_nothing():
    rows = made_up(60)
    guarded = train(rows, rows, "", 0, KMeansSettings(4))
    assert isinstance(guarded, GuardedEstimator)
    np.testing.assert_array_equal(
        guarded.quality_stderr(rows.embeddings),
        guarded.estimator.quality_stderr(rows.embeddings),
    )


def test_a_network_has_none_and_neither_has_an_average_with_one():
    rows = made_up(40)
    network = fit(rows, rows, MlpSettings(hidden=4, max_epochs=1), 0)
    half = np.full(4, 0.5, np.float32)
    average = MixtureEstimator(network, fit(rows, rows, RIDGE, 0), half, half)
    assert network.quality_stderr(rows.embeddings) is None
    assert average.quality_stderr(rows.embeddings) is None
