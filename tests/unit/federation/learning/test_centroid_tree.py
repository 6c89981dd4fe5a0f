import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from federation.learning.centroid_tree import SUPPRESSED, CentroidTree, spread_group_means
from router_models.training.kmeans import normalize_rows

# Two pairs of neighbours.
CENTROIDS = normalize_rows(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]))
BRANCHES = CentroidTree.from_centroids(CENTROIDS)
ROWS = st.lists(st.integers(0, 20).map(float), min_size=4, max_size=4).map(np.array)


def test_leaves_with_enough_rows_stay_alone():
    np.testing.assert_array_equal(BRANCHES.groups(np.array([10.0, 12, 11, 10]), 10), [0, 1, 2, 3])


def test_leaves_with_too_few_rows_join_their_neighbours():
    np.testing.assert_array_equal(BRANCHES.groups(np.array([6.0, 4, 5, 6]), 10), [0, 0, 2, 2])


def test_a_neighbour_with_enough_rows_is_left_as_it_is():
    np.testing.assert_array_equal(BRANCHES.groups(np.array([30.0, 4, 3, 3]), 10), [0, 1, 1, 1])


def test_what_is_left_at_the_root_joins_a_group():
    np.testing.assert_array_equal(BRANCHES.groups(np.array([30.0, 4, 0, 0]), 10), [0, 0, 0, 0])


def test_leaves_without_rows_are_left_out_where_nothing_waits_for_a_group():
    group = BRANCHES.groups(np.array([30.0, 0, 12, 0]), 10)
    np.testing.assert_array_equal(group, [0, SUPPRESSED, 2, SUPPRESSED])


def test_too_few_rows_altogether_are_not_told():
    assert (BRANCHES.groups(np.array([3.0, 3, 2, 1]), 10) == SUPPRESSED).all()


def test_one_centroid_is_a_tree_of_its_own():
    branches = CentroidTree.from_centroids(CENTROIDS[:1])
    assert branches.groups(np.array([12.0]), 10) == [0]
    assert branches.groups(np.array([9.0]), 10) == [SUPPRESSED]


@given(rows=ROWS, least_rows=st.integers(1, 30))
def test_every_group_has_enough_rows_and_none_is_lost(rows, least_rows):
    group = BRANCHES.groups(rows, least_rows)
    told = [rows[group == name].sum() for name in np.unique(group[group != SUPPRESSED])]
    assert min(told, default=least_rows) >= least_rows
    assert sum(told) == rows.sum() * (rows.sum() >= least_rows)


@given(rows=ROWS, sums=ROWS, least_rows=st.integers(1, 30))
def test_what_is_told_depends_on_sums_of_groups_alone(rows, sums, least_rows):
    group = BRANCHES.groups(rows, least_rows)
    told = spread_group_means(sums, group)
    np.testing.assert_allclose(spread_group_means(told, group), told, rtol=1e-9)
    np.testing.assert_allclose(told.sum(), sums[group != SUPPRESSED].sum(), rtol=1e-9)
