from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pytest

from federation.learning import mlp, mlp_training
from federation.learning.growth import (
    add_clients,
    add_models,
    extend_guard,
    join_models,
    new_heads,
    scales_of_new_clients,
    scales_of_new_models,
    weights_of,
    widen_guard,
)
from federation.learning.kmeans import ClusterSums, to_estimator
from federation.learning.settings import FederatedKMeansSettings, FederatedMlpSettings
from federation.learning.statistics import RowSums
from router_models.estimators.guard import Guard
from router_models.training.kmeans import fit_kmeans
from router_models.training.settings import KMeansSettings
from router_models.types import Evaluations, Float32
from tests.fakes.clients import pooled, split_rows
from tests.fakes.evaluations import MODELS, made_up

ROWS = made_up(300)
OLD, NEW = np.arange(3), np.arange(3, 4)
TINY = FederatedMlpSettings(
    hidden=8, learning_rate=1e-2, dropout=0.1, batch_size=32, adam_at="clients"
)


def with_models(rows: Evaluations, columns) -> Evaluations:
    return replace(
        rows,
        quality=rows.quality[:, columns],
        cost_usd=rows.cost_usd[:, columns],
        models=tuple(rows.models[column] for column in columns),
    )


def trained_router(rows):
    scales = RowSums.gather(rows).scales()
    weights: Mapping[str, Float32] = mlp_training.initial_weights(scales, TINY, 0)
    for number in range(8):
        weights = mlp_training.train_locally(weights, rows, scales, TINY, number).weights
    return mlp.to_estimator(weights, rows.models, scales)


@pytest.fixture(scope="module")
def router():
    return trained_router(with_models(ROWS, OLD))


@pytest.fixture(scope="module")
def guard():
    quality, cost = RowSums.gather(with_models(ROWS, OLD)).means()
    scaler = RowSums.gather(ROWS).scaler()
    return Guard(scaler, np.eye(12, dtype=np.float32), np.ones(12, np.float32), 1, 2, quality, cost)


@pytest.fixture(scope="module")
def kmeans():
    return fit_kmeans(with_models(ROWS, OLD), KMeansSettings(4), seed=0)


def gather(kmeans, rows):
    return ClusterSums.gather(kmeans.centroids, kmeans.scaler, rows, least_rows=1)


def test_kmeans_with_models_added_is_kmeans_of_all_models(kmeans):
    grown = add_models(kmeans, MODELS[3:], gather(kmeans, with_models(ROWS, NEW)))
    whole = to_estimator(
        MODELS, kmeans.scaler, kmeans.centroids, gather(kmeans, ROWS), FederatedKMeansSettings()
    )
    assert grown.models == MODELS
    for name, array in whole.to_arrays().items():
        np.testing.assert_allclose(grown.to_arrays()[name], array, rtol=1e-5, err_msg=name)


def test_kmeans_with_clients_added_is_kmeans_of_all_clients(kmeans):
    rows = with_models(ROWS, OLD)
    clients = split_rows(rows, 5)
    early = reduce(add, (gather(kmeans, client) for client in clients[:3]))
    late = reduce(add, (gather(kmeans, client) for client in clients[3:]))
    settings = FederatedKMeansSettings()
    first = to_estimator(rows.models, kmeans.scaler, kmeans.centroids, early, settings)
    grown = add_clients(first, late).to_arrays()
    for name, array in kmeans.to_arrays().items():
        np.testing.assert_allclose(grown[name], array, rtol=1e-4, atol=1e-7, err_msg=name)


def scales_of(rows):
    return RowSums.gather(rows).scales()


def test_new_heads_leave_the_old_ones_alone(router):
    scales = scales_of_new_models(router, scales_of(with_models(ROWS, NEW)))
    grown = join_models(router, MODELS[3:], new_heads(router, scales), scales)
    assert grown.models == MODELS
    np.testing.assert_array_equal(grown.head_weight[:, [0, 1, 2, 4, 5, 6]], router.head_weight)
    np.testing.assert_array_equal(grown.head_bias[[0, 1, 2, 4, 5, 6]], router.head_bias)
    np.testing.assert_array_equal(grown.cost_scale[:, :3], router.cost_scale)


def test_new_heads_begin_at_their_models_means(router):
    scales = scales_of_new_models(router, scales_of(with_models(ROWS, NEW)))
    grown = join_models(router, MODELS[3:], new_heads(router, scales), scales)
    quality = grown.predict(ROWS.embeddings).quality[:, 3]
    np.testing.assert_allclose(quality, ROWS.quality[:, 3].mean(), rtol=1e-5)


def test_weights_and_scales_come_back_from_the_router(router):
    scales = scales_of_new_clients(router, scales_of(with_models(made_up(50, seed=9), OLD)))
    again = mlp.to_estimator(weights_of(router), router.models, scales)
    for name, array in router.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], array)


def test_the_guard_learns_the_means_of_new_models(guard):
    scales = scales_of(with_models(ROWS, NEW))
    wide = widen_guard(guard, scales)
    np.testing.assert_array_equal(wide.quality_means[:3], guard.quality_means)
    np.testing.assert_array_equal(wide.quality_means[3:], scales.quality_means)
    np.testing.assert_array_equal(wide.cost_means_usd[3:], scales.cost_means_usd)
    assert len(pooled([ROWS]).models) == len(wide.quality_means)


def test_the_guard_learns_where_new_clients_rows_lie(guard):
    elsewhere = -np.ones((1, 12), np.float32)
    centroid = guard.scaler.apply_unit(elsewhere)
    wide = extend_guard(guard, centroid, np.full(1, 0.2, np.float32))
    assert guard.familiarity(elsewhere) < wide.familiarity(elsewhere) == 1.0
    assert (wide.familiarity(ROWS.embeddings) >= guard.familiarity(ROWS.embeddings)).all()
