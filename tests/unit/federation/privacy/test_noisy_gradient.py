import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from federation.learning.mlp_training import initial_weights, validation_loss
from federation.learning.settings import FederatedMlpSettings
from federation.learning.statistics import RowSums
from federation.privacy.noisy_gradient import clipped_gradients, noisy_gradient_step
from federation.privacy.settings import NoiseSettings
from router_models.statistics import select
from router_models.training.mlp import RouterNetwork, Rows, masked_loss
from tests.fakes.evaluations import made_up

ROWS = made_up(150, share_answered=0.4)
SCALES = RowSums.gather(ROWS).scales()
WEIGHTS = initial_weights(SCALES, FederatedMlpSettings(hidden=16), seed=0)
BIAS = WEIGHTS["head_bias"]


def tensors(evaluations) -> Rows:
    return Rows.from_evaluations(evaluations, SCALES.scaler, SCALES.cost_scale)


def length(gradients) -> float:
    return float(torch.cat([gradient.flatten() for gradient in gradients.values()]).norm())


@given(left_out=st.integers(0, 39), longest=st.sampled_from([1e-3, 0.1, 1.0]))
@settings(max_examples=8, deadline=None)
def test_one_query_more_moves_the_gradient_by_no_more_than_the_bound(
    left_out: int, longest: float
) -> None:
    network = RouterNetwork.from_weights(WEIGHTS)
    whole = clipped_gradients(network, tensors(select(ROWS, np.arange(40))), longest)
    fewer = select(ROWS, np.delete(np.arange(40), left_out))
    rest = clipped_gradients(network, tensors(fewer), longest)
    assert length({n: whole[n] - rest[n] for n in whole}) <= longest * (1 + 1e-4)


def test_without_clipping_the_rows_gradients_add_up_to_the_usual_one() -> None:
    network, rows = RouterNetwork.from_weights(WEIGHTS), tensors(select(ROWS, np.arange(30)))
    found = clipped_gradients(network, rows, longest=1e9)
    for row in range(30):
        single = rows.take(torch.tensor([row]))
        torch.autograd.backward(masked_loss(network(single.features), single))
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-4, rtol=1e-4)


def test_more_rows_than_fit_at_once_add_up_the_same() -> None:
    network, rows = RouterNetwork.from_weights(WEIGHTS), tensors(ROWS)
    whole = clipped_gradients(network, rows, longest=0.5)
    halves = [
        clipped_gradients(network, rows.take(torch.arange(start, start + 75)), longest=0.5)
        for start in (0, 75)
    ]
    for name in whole:
        torch.testing.assert_close(whole[name], halves[0][name] + halves[1][name])


def test_no_rows_have_no_gradient() -> None:
    found = clipped_gradients(
        RouterNetwork.from_weights(WEIGHTS), tensors(select(ROWS, np.arange(0))), 1.0
    )
    assert length(found) == 0.0


def follow(rows, noise: NoiseSettings, seed: int = 0, sharers: int = 1):
    rng = np.random.default_rng(seed)
    return noisy_gradient_step(WEIGHTS, rows, SCALES, 0.0, noise, rng, sharers)


def test_goes_down_by_the_rows_gradients_where_there_is_hardly_any_noise() -> None:
    moved = follow(ROWS, NoiseSettings(1e-6, sampling_rate=1.0, longest_gradient=1e-2))
    before, _ = validation_loss(WEIGHTS, ROWS, SCALES)
    after, _ = validation_loss(moved, ROWS, SCALES)
    assert after < before


def test_uses_a_share_of_the_rows() -> None:
    bias = [
        np.abs(follow(ROWS, NoiseSettings(1e-6, sampling_rate=rate))["head_bias"] - BIAS).sum()
        for rate in (0.1, 1.0)
    ]
    assert bias[0] < 0.4 * bias[1]


def test_noise_moves_weights_even_without_rows() -> None:
    moved = follow(select(ROWS, np.arange(0)), NoiseSettings(2.0, longest_gradient=3.0))
    shift = np.concatenate([(moved[name] - WEIGHTS[name]).ravel() for name in WEIGHTS])
    assert shift.std() == pytest.approx(6.0, rel=0.1)


def test_sharers_add_their_part_of_the_noise() -> None:
    moved = follow(select(ROWS, np.arange(0)), NoiseSettings(2.0), sharers=4)
    shift = np.concatenate([(moved[name] - WEIGHTS[name]).ravel() for name in WEIGHTS])
    assert shift.std() == pytest.approx(1.0, rel=0.1)


def test_the_same_draws_give_the_same_weights() -> None:
    first, second = (follow(ROWS, NoiseSettings(1.0), seed=7) for _ in range(2))
    np.testing.assert_array_equal(first["trunk.0.weight"], second["trunk.0.weight"])


def test_keeps_the_weights_names_and_shapes() -> None:
    moved = follow(ROWS, NoiseSettings(1.0))
    assert {n: a.shape for n, a in moved.items()} == {n: a.shape for n, a in WEIGHTS.items()}


def test_the_network_has_nothing_that_mixes_rows() -> None:
    # A gradient per row has a bound only where a row's loss depends on that row alone.
    mixing = (nn.modules.batchnorm._BatchNorm,)
    assert not [m for m in RouterNetwork.from_weights(WEIGHTS).modules() if isinstance(m, mixing)]
