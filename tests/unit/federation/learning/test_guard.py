from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pytest

from federation.learning.guard import (
    BINS,
    USUAL_NEAR,
    DistanceCounts,
    ReachSums,
    limited_guard,
    merge_guard_centroids,
    scaler_of_guard,
    unlimited_guard,
)
from federation.learning.kmeans import Centroids, local_centroids
from federation.learning.statistics import RowSums
from router_models.errors import InvalidEvaluations
from router_models.statistics import model_means, select
from router_models.training.guard import fit_guard
from router_models.training.kept import USUAL_KEPT
from tests.fakes.clients import no_rows, split_rows
from tests.fakes.evaluations import made_up

ROWS, HELD_OUT = made_up(600), made_up(200, seed=1)
SCALES = RowSums.gather(ROWS).scales()
TASKS = np.array(ROWS.tasks)
KNOWN = select(ROWS, np.flatnonzero(TASKS != "riddles"))
UNSEEN = select(ROWS, np.flatnonzero(TASKS == "riddles"))


def centroids_of(clients, least_rows=10):
    scaler = scaler_of_guard(12)
    found = [
        local_centroids(scaler.apply_unit(rows.embeddings), 16, 0, least_rows) for rows in clients
    ]
    return merge_guard_centroids(found, seed=0)


def federated(clients, held_out):
    centroids = centroids_of(clients)
    reach = reduce(add, (ReachSums.gather(centroids, rows) for rows in clients)).reach()
    guard = unlimited_guard(centroids, reach, SCALES)
    return limited_guard(
        guard, reduce(add, (DistanceCounts.gather(guard, rows) for rows in held_out))
    )


def test_is_as_sure_as_the_central_guard_of_what_it_knows():
    guard = federated(split_rows(KNOWN, 4), split_rows(KNOWN, 4))
    central = fit_guard(KNOWN, KNOWN, seed=0)
    queries = np.concatenate([HELD_OUT.embeddings, UNSEEN.embeddings])
    found, expected = guard.familiarity(queries), central.familiarity(queries)
    assert np.corrcoef(found, expected)[0, 1] > 0.8
    assert guard.familiarity(KNOWN.embeddings).mean() > 0.85
    assert guard.familiarity(UNSEEN.embeddings).mean() < 0.1


def test_reach_holds_most_of_a_clusters_rows():
    centroids = centroids_of([ROWS])
    reach = ReachSums.gather(centroids, ROWS).reach()
    assert (unlimited_guard(centroids, reach, SCALES).distance(ROWS.embeddings) <= 1).mean() > 0.8


def test_a_cluster_of_few_rows_reaches_about_as_far_as_all_rows_do():
    sums = ReachSums(np.array([1000.0, 1.0]), np.array([200.0, 0.9]), np.array([40.0, 0.81]))
    reach = sums.reach()
    assert reach[0] == pytest.approx(0.2, abs=0.01)
    assert reach[1] < 0.3


def test_no_cluster_of_fewer_rows_leaves_a_client():
    centroids = centroids_of(split_rows(ROWS, 4))
    whole, told = (ReachSums.gather(centroids, ROWS, least) for least in (1, 20))
    small = whole.sizes < 20
    assert small.any()
    for name, array in told.to_arrays().items():
        np.testing.assert_array_equal(array, np.where(small, 0.0, getattr(whole, name)))


def test_says_that_nobody_has_rows_near_a_centroid():
    with pytest.raises(InvalidEvaluations, match="near any centroid"):
        ReachSums.gather(centroids_of([ROWS]), no_rows()).reach()


def test_familiar_reaches_as_far_as_most_held_out_rows():
    guard = federated(split_rows(ROWS, 3), split_rows(HELD_OUT, 3))
    expected = np.quantile(guard.distance(HELD_OUT.embeddings), 0.85)
    assert guard.near == pytest.approx(expected, abs=0.02)
    assert guard.far == pytest.approx(guard.near * 1.3)


def test_rows_far_from_everything_fall_into_the_last_bin():
    guard = unlimited_guard(centroids_of([ROWS]), np.full(60, 1e-3, np.float32), SCALES)
    guard = replace(guard, reach=np.full(len(guard.centroids), 1e-3, np.float32))
    assert DistanceCounts.gather(guard, UNSEEN).rows[BINS - 1] > 0.5 * len(UNSEEN.embeddings)


@pytest.mark.parametrize("rows", [no_rows(), made_up(9)])
def test_held_out_rows_too_few_to_tell_count_as_none(rows):
    guard = unlimited_guard(centroids_of([ROWS]), np.ones(60, np.float32), SCALES)
    assert not DistanceCounts.gather(replace(guard, reach=np.array(1, np.float32)), rows).rows.any()


def test_a_query_sent_many_times_does_not_say_what_is_familiar():
    guard = federated([ROWS], [HELD_OUT])
    sent_often = select(HELD_OUT, np.repeat(np.arange(200), np.where(np.arange(200) == 7, 2000, 1)))
    assert DistanceCounts.gather(guard, sent_often).rows.sum() == 200
    assert federated([ROWS], [sent_often]).near == guard.near


def test_one_query_sent_many_times_does_not_leave_a_client():
    guard = federated([ROWS], [HELD_OUT])
    sent_often = select(HELD_OUT, np.zeros(50, np.intp))
    assert not DistanceCounts.gather(guard, sent_often).rows.any()


def test_without_held_out_rows_the_usual_limit_holds():
    assert federated([ROWS], [no_rows()]).near == USUAL_NEAR


def test_makes_as_many_clusters_as_the_rows_allow():
    found = Centroids(np.eye(12, dtype=np.float32), np.full(12, 2.0))
    assert len(merge_guard_centroids([found], seed=0)) == 24 // 8


def test_holds_the_means_of_all_rows():
    guard = federated([ROWS], [HELD_OUT])
    np.testing.assert_allclose(
        [guard.quality_means, guard.cost_means_usd], model_means(ROWS), rtol=1e-5
    )


def test_unknown_queries_keep_the_usual_share_of_a_prediction():
    guard = federated([ROWS], [HELD_OUT])
    assert (guard.kept_quality, guard.kept_cost) == USUAL_KEPT
