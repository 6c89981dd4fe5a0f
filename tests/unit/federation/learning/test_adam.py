from typing import Any

import numpy as np
import pytest
import torch

from federation.learning.adam import adamw_step

START = {"w": np.array([[0.5, -1.0, 2.0]], np.float32), "b": np.array([0.1], np.float32)}


def gradients(n_steps: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return [{n: rng.standard_normal(a.shape) for n, a in START.items()} for _ in range(n_steps)]


def test_takes_the_steps_of_torch():
    weights: dict[str, Any] = START
    moments: dict[str, Any] = {}
    parameters = {name: torch.tensor(array, requires_grad=True) for name, array in START.items()}
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.01, weight_decay=0.1)
    for gradient in gradients(5):
        weights, moments = adamw_step(weights, gradient, moments, 0.01, 0.1)
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(gradient[name], dtype=torch.float32)
        optimizer.step()
    for name, parameter in parameters.items():
        np.testing.assert_allclose(weights[name], parameter.detach().numpy(), rtol=1e-5)


def test_a_weight_that_never_had_a_gradient_stays():
    weights: dict[str, Any] = START
    moments: dict[str, Any] = {}
    for gradient in gradients(3):
        gradient["w"][:, 1] = 0.0
        weights, moments = adamw_step(weights, gradient, moments, 0.01, 0.0)
    assert weights["w"][0, 1] == START["w"][0, 1]
    assert weights["w"][0, 0] != START["w"][0, 0]


@pytest.mark.parametrize("length", [1e-3, 1.0, 1e6])
def test_no_gradient_moves_a_weight_further_than_the_rate(length):
    gradient = {name: np.full_like(array, length) for name, array in START.items()}
    weights, _ = adamw_step(START, gradient, {}, 0.01, 0.0)
    for name, array in weights.items():
        np.testing.assert_allclose(array, START[name] - 0.01, rtol=1e-4)


def test_leaves_what_it_is_given_alone():
    before = {name: array.copy() for name, array in START.items()}
    first = adamw_step(START, gradients(1)[0], {}, 0.01, 0.1)[1]
    kept = {name: array.copy() for name, array in first.items()}
    adamw_step(START, gradients(1)[0], first, 0.01, 0.1)
    for name, array in before.items():
        np.testing.assert_array_equal(START[name], array)
    for name, array in kept.items():
        np.testing.assert_array_equal(first[name], array)
