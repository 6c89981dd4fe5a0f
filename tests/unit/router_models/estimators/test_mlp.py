import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router_models.estimators.arrays import Scaler
from router_models.estimators.mlp import MlpEstimator, gelu

ROWS = arrays(np.float32, (3, 5), elements=st.floats(-30, 30, width=32))


@given(rows=ROWS)
def test_gelu_is_torchs_in_its_tanh_form(rows):
    expected = torch.nn.functional.gelu(torch.from_numpy(rows), approximate="tanh").numpy()
    np.testing.assert_allclose(gelu(rows.copy()), expected, atol=2e-5)


def heads_only(bias, cost_scale, floor) -> MlpEstimator:
    return MlpEstimator(
        ("a",),
        Scaler.identity(2),
        (),
        np.zeros((2, 2), np.float32),
        np.array(bias, np.float32),
        np.array(cost_scale, np.float32),
        np.array(floor, np.float32),
    )


def test_turns_logits_into_quality_and_z_scores_into_usd():
    estimator = heads_only([0.0, 2.0], [[0.1], [0.05]], [0.0])
    prediction = estimator.predict(np.ones((1, 2), np.float32))
    np.testing.assert_allclose(prediction.quality, [[0.5]])
    np.testing.assert_allclose(prediction.cost_usd, [[np.expm1(0.2)]], rtol=1e-5)


def test_never_predicts_a_cost_below_the_lowest_seen():
    estimator = heads_only([0.0, -50.0], [[0.1], [0.05]], [0.003])
    cost = estimator.predict(np.ones((1, 2), np.float32)).cost_usd
    np.testing.assert_allclose(cost, [[0.003]])


def test_a_huge_logit_does_not_overflow():
    estimator = heads_only([1e6, 0.0], [[0.1], [0.05]], [0.0])
    np.testing.assert_allclose(estimator.predict(np.ones((1, 2), np.float32)).quality, [[1.0]])


def test_comes_back_without_a_trunk():
    estimator = heads_only([0.0, 2.0], [[0.1], [0.05]], [0.0])
    again = MlpEstimator.from_arrays(("a",), estimator.to_arrays())
    assert again.trunk == ()
