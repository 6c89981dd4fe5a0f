from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pytest

from federation.learning import mlp
from federation.learning.growth import (
    add_clients,
    add_models,
    descend_heads,
    join_models,
    new_heads,
    scales_of,
    scales_of_new_models,
    settings_for_new_clients,
    settings_for_new_models,
    weights_of,
    widen_guard,
)
from federation.learning.kmeans import ClusterSums, to_estimator
from federation.learning.settings import FederatedKMeansSettings, FederatedMlpSettings
from federation.learning.statistics import RowSums
from router_models.guard import Guard
from router_models.training.kmeans import fit_kmeans
from router_models.training.settings import KMeansSettings
from router_models.training.statistics import select
from router_models.types import Evaluations
from tests.fakes.clients import pooled, split_rows
from tests.fakes.evaluations import MODELS, made_up

ROWS = made_up(300)
OLD, NEW = np.arange(3), np.arange(3, 4)
TINY = FederatedMlpSettings(
    hidden=8, learning_rate=1e-2, dropout=0.1, batch_size=32, adam_at="clients"
)


def with_models(rows, columns) -> Evaluations:
    return replace(
        rows,
        quality=rows.quality[:, columns],
        cost_usd=rows.cost_usd[:, columns],
        models=tuple(rows.models[column] for column in columns),
    )


def trained_router(rows):
    scales = RowSums.gather(rows).scales()
    weights = mlp.initial_weights(scales, TINY, 0)
    for number in range(8):
        weights = mlp.train_locally(weights, rows, scales, TINY, number).weights
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


def trunk_of(weights):
    return [array for name, array in sorted(weights.items()) if name.startswith("trunk.")]


def grown_by_heads(router):
    calibration = with_models(select(ROWS, np.arange(60)), NEW)
    scales = scales_of_new_models(router, RowSums.gather(calibration))
    heads, moments, settings = new_heads(router, scales), {}, settings_for_new_models(TINY)
    for number in range(settings.rounds):
        updates = [
            mlp.train_locally(heads, rows, scales, settings, number, frozen_trunk=True)
            for rows in split_rows(calibration, 2)
        ]
        averaged = mlp.average(heads, updates)
        heads, moments = descend_heads(heads, averaged, moments, settings)
    for before, after in zip(trunk_of(weights_of(router)), trunk_of(heads), strict=True):
        np.testing.assert_array_equal(after, before)
    return join_models(router, MODELS[3:], heads, scales)


def test_new_heads_leave_the_old_predictions_alone(router):
    grown = grown_by_heads(router)
    before, after = (r.predict(ROWS.embeddings) for r in (router, grown))
    assert grown.models == MODELS
    np.testing.assert_allclose(after.quality[:, :3], before.quality, rtol=1e-5)
    np.testing.assert_allclose(after.cost_usd[:, :3], before.cost_usd, rtol=1e-5)


def test_new_heads_learn_their_model_from_a_small_calibration_set(router):
    held_out = made_up(200, seed=3)
    predicted = grown_by_heads(router).predict(held_out.embeddings)
    cost_error = np.abs(predicted.cost_usd[:, 3] / held_out.cost_usd[:, 3] - 1)
    assert np.median(cost_error) < 0.4
    assert predicted.quality[:, 3].mean() == pytest.approx(held_out.quality[:, 3].mean(), abs=0.1)


def test_weights_and_scales_come_back_from_the_router(router, guard):
    scales = scales_of(router, guard)
    again = mlp.to_estimator(weights_of(router), router.models, scales)
    for name, array in router.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], array)


def test_new_clients_are_learned_without_forgetting_what_the_router_knew(router, guard):
    tasks = np.array(ROWS.tasks)
    rows = with_models(ROWS, OLD)
    known = select(rows, np.flatnonzero(tasks != "code"))
    joining = select(rows, np.flatnonzero(tasks == "code"))
    first = trained_router(known)
    scales, teacher = scales_of(first, guard), weights_of(first)
    settings = settings_for_new_clients(TINY)
    weights = teacher
    for number in range(settings.rounds):
        update = mlp.train_locally(weights, joining, scales, settings, number, teacher=teacher)
        weights = mlp.average(weights, [update])

    def loss(weights, rows):
        total, count = mlp.validation_loss(weights, rows, scales)
        return total / count

    assert loss(weights, joining) < loss(teacher, joining)
    assert loss(weights, known) < loss(teacher, known) + 0.02


def test_the_guard_learns_the_means_of_new_models(router, guard):
    scales = scales_of_new_models(router, RowSums.gather(with_models(ROWS, NEW)))
    wide = widen_guard(guard, scales)
    np.testing.assert_array_equal(wide.quality_means[:3], guard.quality_means)
    np.testing.assert_array_equal(wide.quality_means[3:], scales.quality_means)
    np.testing.assert_array_equal(wide.cost_means_usd[3:], scales.cost_means_usd)
    assert len(pooled([ROWS]).models) == len(wide.quality_means)
