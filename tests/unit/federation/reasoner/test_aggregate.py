from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.reasoner.aggregate import Adapters, aggregate, trainable_part

A, B = "layer.lora_A.weight", "layer.lora_B.weight"
RANK, N_IN, N_OUT = 2, 5, 4


def adapter(seed: int, b_scale: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        A: rng.normal(size=(RANK, N_IN)).astype(np.float32),
        B: (b_scale * rng.normal(size=(N_OUT, RANK))).astype(np.float32),
    }


def product(weights):
    return weights[B] @ weights[A]


CURRENT = adapter(0)


def test_a_and_b_are_averaged_apart_by_the_clients_counts():
    result = aggregate("separate", 1, CURRENT, [Adapters(adapter(1), 3), Adapters(adapter(2), 1)])
    for name in (A, B):
        expected = 0.75 * adapter(1)[name] + 0.25 * adapter(2)[name]
        np.testing.assert_allclose(result[name], expected, rtol=1e-6)
        assert result[name].dtype == np.float32


@pytest.mark.parametrize("aggregation", ["separate", "alternating", "product"])
def test_without_clients_nothing_moves(aggregation):
    assert aggregate(aggregation, 1, CURRENT, []) == CURRENT


def test_a_and_b_take_turns_and_b_begins():
    assert [trainable_part("alternating", round_) for round_ in (1, 2, 3)] == ["B", "A", "B"]
    assert trainable_part("separate", 1) == trainable_part("product", 2) == "both"


@pytest.mark.parametrize(("round_", "moving", "resting"), [(1, B, A), (2, A, B)])
def test_in_turns_the_mean_of_products_is_exact(round_, moving, resting):
    clients = [{**CURRENT, moving: adapter(seed)[moving]} for seed in (1, 2)]
    result = aggregate("alternating", round_, CURRENT, [Adapters(one, 1) for one in clients])
    expected = (product(clients[0]) + product(clients[1])) / 2
    np.testing.assert_allclose(product(result), expected, atol=1e-6)


def test_in_turns_nobody_is_heard_on_the_part_that_rests():
    result = aggregate("alternating", 1, CURRENT, [Adapters(adapter(1), 1)])
    assert np.array_equal(result[A], CURRENT[A])
    np.testing.assert_allclose(result[B], adapter(1)[B])


@given(st.integers(0, 10_000), st.lists(st.floats(0.1, 10), min_size=1, max_size=4))
def test_products_are_averaged_as_nearly_as_the_rank_allows(seed, counts):
    clients = [adapter(seed + index) for index in range(len(counts))]
    result = aggregate(
        "product",
        1,
        CURRENT,
        [Adapters(one, count) for one, count in zip(clients, counts, strict=True)],
    )
    mean = sum(c * product(one) for c, one in zip(counts, clients, strict=True)) / sum(counts)
    left, values, right = np.linalg.svd(mean)
    nearest = (left[:, :RANK] * values[:RANK]) @ right[:RANK]
    assert result[A].shape == (RANK, N_IN)
    error = np.linalg.norm(product(result) - mean)
    assert error == pytest.approx(np.linalg.norm(nearest - mean), abs=1e-4)


def test_a_keeps_its_size_while_b_is_zero():
    start = adapter(0, b_scale=0.0)
    result = aggregate("product", 1, start, [Adapters(start, 1), Adapters(start, 1)])
    assert np.linalg.norm(result[A]) == pytest.approx(np.linalg.norm(start[A]), rel=1e-5)
    assert np.allclose(result[B], 0)


def test_adapters_wider_than_their_layer_are_averaged_exactly():
    rng = np.random.default_rng(0)
    clients: list[dict[str, Any]] = [
        {A: rng.normal(size=(7, N_IN)), B: rng.normal(size=(N_OUT, 7))} for _ in range(2)
    ]
    result = aggregate("product", 1, clients[0], [Adapters(one, 1) for one in clients])
    assert (result[A].shape, result[B].shape) == ((7, N_IN), (N_OUT, 7))
    expected = (product(clients[0]) + product(clients[1])) / 2
    np.testing.assert_allclose(product(result), expected, atol=1e-5)


def test_a_product_is_refactored_near_the_current_a():
    rng = np.random.default_rng(0)
    orthonormal = np.linalg.qr(rng.normal(size=(N_IN, RANK)))[0].T.astype(np.float32)
    current = {A: orthonormal, B: adapter(0)[B]}
    result = aggregate("product", 1, current, [Adapters(current, 1)])
    for name in (A, B):
        np.testing.assert_allclose(result[name], current[name], atol=1e-5)
