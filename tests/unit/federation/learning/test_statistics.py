from functools import reduce
from operator import add

import numpy as np
import pytest

from federation.learning.statistics import RowSums, Scales
from router_models.errors import ArtifactRejected, InvalidEvaluations
from router_models.estimators.arrays import Scaler
from router_models.statistics import cost_floor, model_means
from router_models.training.mlp import cost_scale_of
from tests.fakes.clients import no_rows, split_rows, without_model
from tests.fakes.evaluations import made_up

ROWS = without_model(made_up(300, share_answered=0.4), 2)


@pytest.fixture
def sums():
    return reduce(add, map(RowSums.gather, split_rows(ROWS, 5)))


def test_the_scaler_is_that_of_all_rows(sums):
    expected = Scaler.fit(ROWS.embeddings)
    np.testing.assert_allclose(sums.scaler().shift, expected.shift, rtol=1e-6)
    np.testing.assert_allclose(sums.scaler().factor, expected.factor, rtol=1e-6)


def test_a_feature_that_never_varies_is_switched_off():
    rows = made_up(50)
    rows.embeddings[:, 3] = 0.1
    assert RowSums.gather(rows).scaler().factor[3] == 0.0


def test_the_scale_of_costs_is_that_of_all_rows(sums):
    np.testing.assert_allclose(sums.cost_scale(), cost_scale_of(ROWS), rtol=1e-5)


def test_the_means_are_those_of_all_rows(sums):
    np.testing.assert_allclose(sums.means(), model_means(ROWS), rtol=1e-6)


def test_a_model_nobody_evaluated_is_average_and_as_dear_as_the_dearest(sums):
    quality, cost = sums.means()
    assert quality[2] == pytest.approx(quality[[0, 1, 3]].mean())
    assert cost[2] == cost.max()


def test_the_floor_is_about_the_lowest_cost(sums):
    seen = [0, 1, 3]
    ratio = sums.cost_floor()[seen] / cost_floor(ROWS)[seen]
    assert (ratio > 0.7).all()
    assert (ratio < 1.4).all()


def test_the_floor_of_a_model_with_dear_outliers_is_above_nothing():
    rows = made_up(50)
    rows.cost_usd[:2] = 3.0
    assert (RowSums.gather(rows).cost_floor() > 0).all()


def test_the_floor_of_a_model_without_rows_is_nothing(sums):
    assert sums.cost_floor()[2] == 0


def test_the_floor_of_a_model_with_one_price_is_that_price():
    rows = made_up(50)
    rows.cost_usd[:] = 0.25
    np.testing.assert_allclose(RowSums.gather(rows).cost_floor(), 0.25, rtol=1e-5)


def test_scales_come_back_from_their_arrays(sums):
    scales = sums.scales()
    again = Scales.from_arrays(scales.to_arrays(), 4)
    for name, array in scales.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], array)


def test_refuses_scales_of_other_models(sums):
    with pytest.raises(ArtifactRejected, match="cost_scale"):
        Scales.from_arrays(sums.scales().to_arrays(), 5)


@pytest.mark.parametrize("figure", ["scaler", "means", "cost_scale", "cost_floor", "scales"])
def test_says_that_nobody_has_rows(figure):
    with pytest.raises(InvalidEvaluations, match="no client has a row"):
        getattr(RowSums.gather(no_rows()), figure)()
