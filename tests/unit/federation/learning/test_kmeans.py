from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from federation.learning.centroid_tree import CentroidTree, spread_group_means
from federation.learning.kmeans import (
    Centroids,
    ClusterSums,
    local_centroids,
    merge_centroids,
    scaler_of,
    to_estimator,
)
from federation.learning.settings import FederatedKMeansSettings
from router_models.errors import ArtifactRejected, InvalidEvaluations
from router_models.estimators.arrays import Scaler
from router_models.training.kmeans import assign, cluster, fit_kmeans, normalize_rows
from router_models.training.settings import KMeansSettings
from tests.fakes.clients import no_rows, split_rows
from tests.fakes.evaluations import MODELS, made_up

IDENTITY = Scaler.identity(12)
SETTINGS = FederatedKMeansSettings(local_clusters=6, clusters=4)


def unit(rows):
    return IDENTITY.apply_unit(rows.embeddings)


def gathered(centroids, rows, least_rows=1):
    return ClusterSums.gather(centroids, IDENTITY, rows, least_rows)


def test_a_centroid_is_the_mean_of_its_rows():
    rows = unit(made_up(100))
    found = local_centroids(rows, 5, seed=0, least_rows=1)
    np.testing.assert_allclose(
        found.counts @ found.centroids, rows.sum(axis=0), rtol=1e-4, atol=1e-4
    )
    assert found.counts.sum() == 100


@given(n_rows=st.integers(0, 60), n_clusters=st.integers(1, 20), least_rows=st.integers(1, 15))
def test_no_centroid_stands_for_fewer_rows_than_it_must(n_rows, n_clusters, least_rows):
    found = local_centroids(unit(made_up(60))[:n_rows], n_clusters, 0, least_rows)
    assert (found.counts >= least_rows).all()
    assert found.counts.sum() in {0, n_rows}
    assert len(found.centroids) <= n_clusters


def test_small_clusters_join_one_after_the_other():
    rows = unit(made_up(60))
    centres = cluster(rows, 20, seed=0)
    while (counts := np.bincount(assign(rows, centres)[0], minlength=len(centres))).min() < 3:
        centres = np.delete(centres, counts.argmin(), axis=0)
    assigned, _ = assign(rows, centres)
    found = local_centroids(rows, 20, seed=0, least_rows=3)
    means = [rows[assigned == each].mean(axis=0) for each in range(len(centres))]
    assert len(means) < 20
    np.testing.assert_array_equal(found.counts, counts)
    np.testing.assert_allclose(found.centroids, means, rtol=1e-5, atol=1e-6)


def test_a_client_with_too_few_rows_sends_no_centroid():
    found = local_centroids(unit(made_up(9)), 5, seed=0)
    assert found.centroids.shape == (0, 12)


def test_rows_of_a_small_cluster_join_a_neighbour():
    rows = normalize_rows(np.repeat(np.eye(3, 12), (20, 20, 2), axis=0))
    found = local_centroids(rows, 3, seed=0, least_rows=10)
    assert sorted(found.counts) == [20, 22]


def test_merging_single_rows_is_scikit_learns_clustering():
    clients = [unit(rows) for rows in split_rows(made_up(150), 3)]
    found = merge_centroids([Centroids(rows, np.ones(len(rows))) for rows in clients], 4, seed=2)
    reference = KMeans(4, n_init=2, random_state=2).fit(np.concatenate(clients))
    np.testing.assert_allclose(found, normalize_rows(reference.cluster_centers_), rtol=1e-5)


def test_a_centroid_counts_as_often_as_it_has_rows():
    points = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    merged = merge_centroids([Centroids(points, np.array([30.0, 10.0]))], 1, seed=0)
    np.testing.assert_allclose(merged, normalize_rows(np.array([[0.75, 0.25]])), rtol=1e-6)


def test_finds_no_more_clusters_than_clients_sent():
    found = Centroids(np.eye(3, 12, dtype=np.float32), np.full(3, 10.0))
    assert len(merge_centroids([found, found], 20, seed=0)) == 3


@pytest.mark.parametrize("found", [[], [local_centroids(unit(no_rows()), 4, 0)]])
def test_says_that_nobody_has_rows_to_cluster(found):
    with pytest.raises(InvalidEvaluations, match="no client has enough rows"):
        merge_centroids(found, 4, seed=0)


def test_the_same_seed_gives_the_same_bits():
    rows = unit(made_up(100))
    one, other = (local_centroids(rows, 5, seed=1) for _ in range(2))
    np.testing.assert_array_equal(one.centroids, other.centroids)


def test_centroids_come_back_from_their_arrays():
    found = local_centroids(unit(made_up(50)), 3, seed=0)
    again = Centroids.from_arrays(found.to_arrays(), 12)
    np.testing.assert_array_equal(again.centroids, found.centroids)
    np.testing.assert_array_equal(again.counts, found.counts)


def test_refuses_centroids_of_another_dimension():
    with pytest.raises(ArtifactRejected, match="centroids"):
        Centroids.from_arrays(local_centroids(unit(made_up(50)), 3, seed=0).to_arrays(), 11)


@pytest.mark.parametrize("standardized", [False, True])
def test_sums_of_clients_make_the_router_of_all_rows(standardized):
    rows = made_up(200, share_answered=0.5)
    central = fit_kmeans(rows, KMeansSettings(5, standardized), seed=0)
    scaler = scaler_of(FederatedKMeansSettings(standardized=standardized), central.scaler)
    np.testing.assert_array_equal(scaler.factor, central.scaler.factor)
    sums = reduce(
        add,
        (ClusterSums.gather(central.centroids, central.scaler, c, 1) for c in split_rows(rows, 4)),
    )
    federated = to_estimator(MODELS, central.scaler, central.centroids, sums, SETTINGS)
    for name, array in central.to_arrays().items():
        np.testing.assert_allclose(federated.to_arrays()[name], array, rtol=1e-6, err_msg=name)


CELLS = ("count", "quality_sum", "quality_squares", "cost_sum", "cost_squares")


def test_a_cell_of_few_rows_is_told_with_its_neighbours():
    rows = made_up(60, share_answered=0.4)
    centroids = local_centroids(unit(rows), 8, 0, least_rows=1).centroids
    exact, told = gathered(centroids, rows), gathered(centroids, rows, least_rows=7)
    branches = CentroidTree.from_centroids(centroids)
    groups = [branches.groups(count, 7) for count in exact.count.T]
    assert all(len(np.unique(group)) < 8 for group in groups)
    for name in CELLS:
        for model, group in enumerate(groups):
            expected = spread_group_means(getattr(exact, name)[:, model], group)
            np.testing.assert_array_equal(getattr(told, name)[:, model], expected)


def test_what_is_told_of_a_model_adds_up_to_all_its_rows():
    rows = made_up(60, share_answered=0.4)
    centroids = local_centroids(unit(rows), 8, 0, least_rows=1).centroids
    exact, told = gathered(centroids, rows), gathered(centroids, rows, least_rows=7)
    for name, array in told.to_arrays().items():
        expected = getattr(exact, name).sum(axis=0)
        np.testing.assert_allclose(array.sum(axis=0), expected, rtol=1e-9, err_msg=name)


def test_a_model_of_too_few_rows_is_not_told():
    rows = made_up(60)
    rows.quality[5:, 2] = rows.cost_usd[5:, 2] = np.nan
    told = gathered(local_centroids(unit(rows), 8, 0).centroids, rows, least_rows=7)
    assert not any(getattr(told, name)[:, 2].any() for name in CELLS)


def test_a_client_of_too_few_rows_tells_nothing():
    told = gathered(normalize_rows(np.eye(3, 12)), made_up(6), least_rows=7)
    assert not any(array.any() for array in told.to_arrays().values())


def test_one_client_alone_learns_the_central_router():
    rows = made_up(200)
    scaled = unit(rows)
    merged = merge_centroids([local_centroids(scaled, 4, seed=0, least_rows=1)], 4, seed=0)
    central = fit_kmeans(rows, KMeansSettings(4), seed=0)
    nearest = assign(merged, central.centroids)[0]
    assert sorted(nearest) == [0, 1, 2, 3]
    np.testing.assert_allclose(merged, central.centroids[nearest], atol=1e-5)
