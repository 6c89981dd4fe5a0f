from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from federation.learning.kmeans import ClusterSums
from federation.learning.statistics import RowSums
from federation.privacy.noise import add_noise, clipped_sums, random_centroids
from router_models.estimators.arrays import Scaler
from router_models.statistics import select
from router_models.types import Evaluations
from tests.fakes.evaluations import DIMENSION, made_up

CENTROIDS = np.eye(5, DIMENSION, dtype=np.float32)
ROWS = made_up(40, share_answered=0.4)
PER_MODEL_USD = np.array([1e-4, 5e-4, 6e-4, 5e-3])
CELL_BOUNDS: dict[str, float | NDArray[np.float64]] = {
    "sizes": 1.0,
    "distance_sum": 2.0,
    "count": 1.0,
    "quality_sum": 1.0,
    "quality_squares": 1.0,
    "cost_sum": PER_MODEL_USD,
    "cost_squares": PER_MODEL_USD**2,
}


def cells(evaluations: Evaluations):
    scaler = Scaler.identity(DIMENSION)
    return ClusterSums.gather(CENTROIDS, scaler, evaluations, least_rows=0).to_arrays()


def distance(first, second, bounds) -> float:
    """Between two sets of sums, each divided by its bounds."""
    squares = (np.square((first[n] - second[n]) / bounds[n]).sum() for n in bounds)
    return float(np.sqrt(sum(squares)))


@given(
    left_out=st.integers(0, 39),
    scale=st.floats(0.0, 1e4),
    dearest_usd=st.floats(0.0, 1e3),
    quality=st.floats(0.0, 1.0),
)
@settings(max_examples=40, deadline=None)
def test_one_query_more_changes_the_sums_by_no_more_than_the_bound(
    left_out: int, scale: float, dearest_usd: float, quality: float
) -> None:
    odd = replace(
        select(ROWS, np.array([left_out])),
        embeddings=ROWS.embeddings[[left_out]] * np.float32(scale),
        quality=np.full((1, 4), quality, np.float32),
        cost_usd=np.full((1, 4), dearest_usd, np.float32),
    )
    rest = select(ROWS, np.delete(np.arange(40), left_out))
    both = Evaluations(
        np.concatenate([rest.embeddings, odd.embeddings]),
        np.concatenate([rest.quality, odd.quality]),
        np.concatenate([rest.cost_usd, odd.cost_usd]),
        rest.models,
    )
    first, second = (clipped_sums(cells, rows, CELL_BOUNDS) for rows in (rest, both))
    assert distance(first, second, CELL_BOUNDS) <= np.sqrt(len(CELL_BOUNDS)) * (1 + 1e-6)


def test_clipping_to_generous_bounds_changes_nothing() -> None:
    wide = dict.fromkeys(CELL_BOUNDS, 1e6)
    sums, exact = clipped_sums(cells, ROWS, wide), cells(ROWS)
    for name in wide:
        np.testing.assert_allclose(sums[name], exact[name], rtol=1e-6)


def test_a_dear_call_counts_as_the_dearest_one_allowed() -> None:
    one = select(ROWS, np.array([0]))
    dear = replace(one, cost_usd=np.where(np.isfinite(one.cost_usd), 1e6, np.nan))
    total = clipped_sums(cells, dear, CELL_BOUNDS)["cost_sum"] / PER_MODEL_USD
    assert np.linalg.norm(total) == pytest.approx(1.0)


def test_no_rows_add_up_to_nothing() -> None:
    nothing = clipped_sums(cells, select(ROWS, np.arange(0)), CELL_BOUNDS)
    assert {name: array.shape for name, array in nothing.items()} == {
        name: array.shape for name, array in cells(ROWS).items()
    }
    assert not any(array.any() for array in nothing.values())


def test_refuses_to_let_an_array_without_a_bound_leave() -> None:
    bounds = {name: 1.0 for name in CELL_BOUNDS if name != "cost_squares"}
    with pytest.raises(ValueError, match="cost_squares"):
        clipped_sums(cells, ROWS, bounds)


def test_row_sums_add_up_row_by_row_too() -> None:
    def gather(rows: Evaluations):
        return RowSums.gather(rows).to_arrays()

    sums = clipped_sums(gather, ROWS, dict.fromkeys(gather(ROWS), 1e6))
    np.testing.assert_allclose(sums["feature_squares"], gather(ROWS)["feature_squares"], rtol=1e-5)


def test_noise_has_the_deviation_that_the_accountant_is_told() -> None:
    zeros = {"a": np.zeros((200, 200)), "b": np.zeros((200, 2))}
    bounds: dict[str, float | NDArray[np.float64]] = {"a": 3.0, "b": np.array([1.0, 10.0])}
    noisy = add_noise(zeros, bounds, 2.0, np.random.default_rng(0))
    assert noisy["a"].std() == pytest.approx(2.0 * np.sqrt(2) * 3.0, rel=0.02)
    np.testing.assert_allclose(noisy["b"].std(axis=0), 2.0 * np.sqrt(2) * bounds["b"], rtol=0.15)


def test_the_noise_of_all_sharers_together_is_that_of_one_alone() -> None:
    rng = np.random.default_rng(0)
    zeros, bounds = {"a": np.zeros(40_000)}, {"a": 1.0}
    together = np.sum(
        [add_noise(zeros, bounds, 2.0, rng, sharers=5)["a"] for _ in range(5)], axis=0
    )
    assert together.std() == pytest.approx(2.0, rel=0.02)


def test_public_directions_are_of_length_one_and_depend_on_the_seed_alone() -> None:
    first, again, other = (random_centroids(4, 12, seed) for seed in (1, 1, 2))
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
