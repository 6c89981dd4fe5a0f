from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.learning.kmeans import ClusterSums
from federation.learning.statistics import RowSums
from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import Scaler
from tests.fakes.clients import no_rows, pooled, split_rows
from tests.fakes.evaluations import made_up

LENGTHS = {"one": 1, "dimension": 12, "n_models": 4, "n_clusters": 3}
CENTROIDS = Scaler.identity(12).apply_unit(made_up(3, seed=7).embeddings)


def row_sums(rows):
    return RowSums.gather(rows)


def cluster_sums(rows):
    return ClusterSums.gather(CENTROIDS, Scaler.identity(12), rows, least_rows=1)


@pytest.fixture(params=[row_sums, cluster_sums])
def gather(request):
    return request.param


def assert_equal_sums(one, other):
    for name, array in one.to_arrays().items():
        np.testing.assert_allclose(array, other.to_arrays()[name], rtol=1e-9, atol=1e-12)


def test_sums_of_clients_are_the_sums_of_all_rows(gather):
    clients = split_rows(made_up(90, share_answered=0.4), 4)
    assert_equal_sums(reduce(add, map(gather, clients)), gather(pooled(clients)))


@given(seeds=st.lists(st.integers(0, 2**16), min_size=3, max_size=3), share=st.floats(0, 1))
def test_clients_add_up_in_any_order_and_grouping(seeds, share):
    a, b, c = (RowSums.gather(made_up(7, seed=seed, share_answered=share)) for seed in seeds)
    assert_equal_sums(a + b, b + a)
    assert_equal_sums((a + b) + c, a + (b + c))


def test_a_client_without_rows_adds_nothing(gather):
    sums = gather(made_up(20))
    assert_equal_sums(sums + gather(no_rows()), sums)


def test_sums_come_back_from_their_arrays(gather):
    sums = gather(made_up(20))
    assert_equal_sums(type(sums).from_arrays(sums.to_arrays(), LENGTHS), sums)


def test_says_which_shapes_it_expects(gather):
    sums = gather(made_up(20))
    found = {name: array.shape for name, array in sums.to_arrays().items()}
    assert type(sums).shapes(LENGTHS) == found


def test_refuses_arrays_of_another_shape():
    arrays = RowSums.gather(made_up(20)).to_arrays() | {"count": np.ones(3)}
    with pytest.raises(ArtifactRejected, match="'count' has shape"):
        RowSums.from_arrays(arrays, LENGTHS)
