import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors

from router_models.estimators.arrays import Scaler
from router_models.statistics import cost_floor, join, select
from router_models.training.guard import fit_guard
from router_models.training.kmeans import cluster, fit_kmeans
from router_models.training.knn import fit_knn
from router_models.training.mlp import (
    RouterNetwork,
    Rows,
    cost_scale_of,
    fit_mlp,
    masked_loss,
    single_threaded,
)
from router_models.training.mlp_weights import build_estimator
from router_models.training.settings import KMeansSettings, KnnSettings, MlpSettings
from tests.fakes.evaluations import MODELS, made_up

TINY = MlpSettings(hidden=8, max_epochs=6, learning_rate=1e-2)


def test_clusters_as_scikit_learn_does():
    rows = made_up(200)
    unit = Scaler.identity(12).apply_unit(rows.embeddings)
    reference = KMeans(4, n_init=2, random_state=3).fit(unit)
    found = cluster(unit, 4, seed=3)
    expected = reference.cluster_centers_
    np.testing.assert_allclose(
        found, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-5
    )


def test_makes_no_more_clusters_than_there_are_distinct_rows():
    assert len(cluster(np.tile(np.eye(3, dtype=np.float32), (5, 1)), 10, seed=0)) == 3


def test_rows_that_differ_in_the_sign_of_a_zero_are_not_distinct():
    rows = np.tile(np.eye(3, dtype=np.float32), (5, 1))
    rows[::2] *= np.where(rows[::2] == 0, -1, 1)
    assert len(cluster(rows, 10, seed=0)) == 3


@pytest.mark.parametrize("standardized", [False, True])
def test_kmeans_counts_every_evaluation_once(standardized):
    rows = made_up(100, share_answered=0.5)
    estimator = fit_kmeans(rows, KMeansSettings(6, standardized), 0)
    assert estimator.statistics.count.sum() == np.isfinite(rows.quality).sum()
    assert estimator.sizes.sum() == 100


def test_clusterings_over_each_other_are_those_of_each_alone():
    rows, settings = made_up(100), KMeansSettings(8, clusterings=2)
    both = fit_kmeans(rows, settings, 0)
    fine, coarse = (fit_kmeans(rows, layer, 0) for layer in settings.layers)
    np.testing.assert_array_equal(
        both.centroids, np.concatenate([fine.centroids, coarse.centroids])
    )
    np.testing.assert_array_equal(both.statistics.count[:8], fine.statistics.count)
    np.testing.assert_array_equal(both.statistics.count[8:], coarse.statistics.count)
    assert len(both.predict(rows.embeddings).quality) == 100


@pytest.mark.parametrize("standardized", [False, True])
def test_knn_finds_the_neighbours_that_scikit_learn_finds(standardized):
    rows, fresh = made_up(150), made_up(20, seed=1)
    estimator = fit_knn(rows, KnnSettings(5, standardized, 1e-6))
    points, queries = (estimator.scaler.apply_unit(r.embeddings) for r in (rows, fresh))
    nearest = NearestNeighbors(n_neighbors=5).fit(points).kneighbors(queries)[1]
    expected = rows.quality[nearest].mean(axis=1)
    np.testing.assert_allclose(estimator.predict(fresh.embeddings).quality, expected, atol=1e-5)


def test_the_estimator_predicts_what_torch_predicts():
    rows = made_up(40)
    scaler, cost_scale = Scaler.fit(rows.embeddings), cost_scale_of(rows)
    with single_threaded(0):
        network = RouterNetwork(12, len(MODELS), TINY.hidden, TINY.dropout).eval()
        heads = network(torch.from_numpy(scaler.apply(rows.embeddings)))
    built = build_estimator(MODELS, network.weights(), scaler, cost_scale, cost_floor(rows))
    logits, _ = heads.detach().chunk(2, dim=1)
    np.testing.assert_allclose(
        built.predict(rows.embeddings).quality, torch.sigmoid(logits).numpy(), atol=1e-5
    )


def test_a_network_comes_back_from_its_weights():
    rows = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    with single_threaded(0):
        network = RouterNetwork(12, len(MODELS), TINY.hidden, TINY.dropout).eval()
    again = RouterNetwork.from_weights(network.weights()).eval()
    assert torch.equal(again(rows), network(rows))


def test_unanswered_pairs_do_not_move_the_loss():
    rows = made_up(40, share_answered=0.5)
    tensors = Rows.from_evaluations(rows, Scaler.identity(12), cost_scale_of(rows))
    heads = torch.zeros(40, 8)
    moved = torch.cat([10 * (1 - tensors.counts)] * 2, dim=1)
    assert masked_loss(heads + moved, tensors) == masked_loss(heads, tensors)


def test_cost_z_scores_are_clipped_to_3():
    rows = made_up(40)
    rows.cost_usd[0, 0] = 1e3
    tensors = Rows.from_evaluations(rows, Scaler.identity(12), cost_scale_of(made_up(40)))
    assert float(tensors.cost_z.abs().max()) == 3.0


def test_keeps_the_epoch_that_validated_best_and_stops_after_patience():
    rows, held_out = made_up(60), made_up(60, seed=5)
    patient = MlpSettings(hidden=8, max_epochs=40, learning_rate=0.1, patience=40)
    hasty = MlpSettings(hidden=8, max_epochs=40, learning_rate=0.1, patience=1)

    def loss(settings):
        predicted = fit_mlp(rows, held_out, settings, 0).predict(held_out.embeddings)
        return float(((predicted.quality - held_out.quality) ** 2).mean())

    assert loss(patient) <= loss(hasty) + 0.02


def test_training_leaves_torch_as_it_was():
    torch.manual_seed(1)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    fit_mlp(made_up(30), made_up(30), TINY, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_the_guard_knows_the_tasks_it_saw_and_not_the_one_it_did_not():
    rows = made_up(400)
    tasks = np.array(rows.tasks)
    known = select(rows, np.flatnonzero(tasks != "riddles"))
    unseen = select(rows, np.flatnonzero(tasks == "riddles"))
    guard = fit_guard(known, known, seed=0)
    assert guard.familiarity(known.embeddings).mean() > 0.85
    assert guard.familiarity(unseen.embeddings).mean() < 0.1


def test_a_query_that_was_sent_a_hundred_times_does_not_decide_what_is_familiar():
    rows = made_up(400)
    tasks = np.array(rows.tasks)
    known = select(rows, np.flatnonzero(tasks != "riddles"))
    unseen = select(rows, np.flatnonzero(tasks == "riddles"))
    repeated = join(known, select(unseen, np.zeros(100, np.intp)))
    guard = fit_guard(known, repeated, seed=0)
    assert guard.near == pytest.approx(fit_guard(known, known, seed=0).near, rel=0.05)
    assert guard.familiarity(unseen.embeddings).mean() < 0.1


def test_the_guard_holds_the_models_means():
    rows = made_up(50)
    guard = fit_guard(rows, rows, seed=0)
    np.testing.assert_allclose(guard.quality_means, rows.quality.mean(axis=0), rtol=1e-5)
