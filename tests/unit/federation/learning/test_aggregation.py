import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from federation.learning.aggregation import (
    RULES,
    Contribution,
    Rule,
    WeightedSums,
    clip_norms,
    coordinate_median,
    trimmed_mean,
    update_norm,
    weighted_mean,
    winsorize,
)

CURRENT = {"trunk": np.zeros(3, np.float32), "head": np.full((2, 2), 7.0, np.float32)}

rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
values = arrays(np.float64, (4, 5), elements=st.floats(-1e3, 1e3))


def contribute(value: float, rows: float = 1.0, per_model: tuple[float, float] = (1.0, 1.0)):
    return Contribution(
        {name: np.full_like(array, value) for name, array in CURRENT.items()},
        {"trunk": np.array(rows, np.float64), "head": np.array(per_model)},
    )


def only(value: NDArray[np.float64]) -> Contribution:
    return Contribution({"x": value}, {"x": np.array(1.0)})


@rules
def test_equal_clients_change_nothing_but_what_they_agree_on(rule: Rule) -> None:
    result = rule(CURRENT, [contribute(2.5)] * 4)
    np.testing.assert_allclose(result["trunk"], 2.5)
    np.testing.assert_allclose(result["head"], 2.5)


@rules
def test_a_head_that_nobody_has_rows_for_stays(rule: Rule) -> None:
    result = rule(CURRENT, [contribute(1.0, per_model=(3.0, 0.0))] * 3)
    np.testing.assert_allclose(result["head"], [[1.0, 7.0], [1.0, 7.0]])


@rules
def test_a_client_without_rows_of_a_model_cannot_move_its_head(rule: Rule) -> None:
    blind = contribute(1e6, per_model=(0.0, 1.0))
    result = rule(CURRENT, [blind, *[contribute(1.0, per_model=(1.0, 1.0))] * 3])
    np.testing.assert_allclose(result["head"][:, 0], 1.0)


@rules
def test_without_contributions_everything_stays(rule: Rule) -> None:
    result = rule(CURRENT, [])
    np.testing.assert_array_equal(result["head"], CURRENT["head"])


@rules
def test_keeps_the_dtype_of_the_current_arrays(rule: Rule) -> None:
    result = rule(CURRENT, [contribute(0.1)] * 3)
    assert {array.dtype for array in result.values()} == {np.dtype(np.float32)}


@rules
@given(stacked=values)
def test_stays_between_the_lowest_and_the_highest_client(
    rule: Rule, stacked: NDArray[np.float64]
) -> None:
    result = rule({"x": np.zeros(5)}, [only(row) for row in stacked])["x"]
    assert (result >= stacked.min(axis=0) - 1e-6).all()
    assert (result <= stacked.max(axis=0) + 1e-6).all()


def test_the_mean_weighs_the_trunk_by_rows_and_each_head_by_its_own() -> None:
    result = weighted_mean(
        CURRENT,
        [contribute(0.0, rows=1, per_model=(1, 3)), contribute(4.0, rows=3, per_model=(1, 1))],
    )
    np.testing.assert_allclose(result["trunk"], 3.0)
    np.testing.assert_allclose(result["head"], [[2.0, 1.0], [2.0, 1.0]])


@given(stacked=values)
def test_the_median_is_numpys(stacked: NDArray[np.float64]) -> None:
    result = coordinate_median({"x": np.zeros(5)}, [only(row) for row in stacked])["x"]
    np.testing.assert_allclose(result, np.median(stacked, axis=0), atol=1e-9)


@given(stacked=arrays(np.float64, (10, 3), elements=st.floats(-1e3, 1e3)))
def test_the_trimmed_mean_leaves_out_the_extremes(stacked: NDArray[np.float64]) -> None:
    result = trimmed_mean({"x": np.zeros(3)}, [only(row) for row in stacked], share=0.2)["x"]
    np.testing.assert_allclose(result, np.sort(stacked, axis=0)[2:8].mean(axis=0), atol=1e-9)


@pytest.mark.parametrize("rule", [coordinate_median, trimmed_mean])
def test_three_hostile_clients_of_ten_cannot_leave_the_range_of_the_honest(rule: Rule) -> None:
    honest = [contribute(value) for value in np.linspace(0.0, 1.0, 7)]
    result = rule(CURRENT, [*honest, *[contribute(1e9, rows=1e9)] * 3])
    assert 0.0 <= result["trunk"].min() <= result["trunk"].max() <= 1.0


def test_refuses_to_trim_everything_away() -> None:
    with pytest.raises(ValueError, match="share to trim"):
        trimmed_mean(CURRENT, [contribute(1.0)], share=0.5)


def test_weighted_sums_survive_their_arrays() -> None:
    sums = WeightedSums.gather(contribute(2.0, rows=3, per_model=(1, 4)))
    again = WeightedSums.from_arrays(sums.to_arrays())
    np.testing.assert_array_equal(again.mean(CURRENT)["head"], sums.mean(CURRENT)["head"])
    np.testing.assert_array_equal(again.weights["head"], [1, 4])


def test_a_long_update_is_shortened_to_a_multiple_of_the_median_one() -> None:
    bounded = clip_norms(CURRENT, [contribute(8.0), contribute(8.0), contribute(800.0)], ratio=2.0)
    norms = [update_norm(CURRENT, contribution.arrays) for contribution in bounded]
    assert norms[2] == pytest.approx(2.0 * norms[0], rel=1e-5)


def test_an_update_of_usual_length_is_left_alone() -> None:
    usual = contribute(8.0)
    bounded = clip_norms(CURRENT, [usual, contribute(8.5), contribute(800.0)], ratio=2.0)
    np.testing.assert_array_equal(bounded[0].arrays["trunk"], usual.arrays["trunk"])


def test_no_updates_have_no_bound() -> None:
    assert clip_norms(CURRENT, [], ratio=2.0) == []


counted = arrays(np.float64, (5, 3, 2), elements=st.floats(0.0, 50.0))


def means_of(totals: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = totals.sum(axis=1) / np.maximum(counts.sum(axis=1), 1e-9)
    return means


@given(qualities=arrays(np.float64, (5, 3, 2), elements=st.floats(0.0, 1.0)))
def test_no_sites_mean_of_a_model_stays_outside_the_middle_sites(
    qualities: NDArray[np.float64],
) -> None:
    counts = np.full((5, 3, 2), 10.0)
    moved = means_of(winsorize(qualities * 10.0, counts, share=0.3), counts)
    middle = np.sort(means_of(qualities * 10.0, counts), axis=0)[1:-1]
    assert (moved >= middle[0] - 1e-9).all()
    assert (moved <= middle[-1] + 1e-9).all()


def test_a_share_of_one_half_moves_every_site_to_the_median() -> None:
    counts = np.full((3, 1, 1), 10.0)
    totals = np.array([1.0, 4.0, 9.0]).reshape(3, 1, 1)
    np.testing.assert_allclose(winsorize(totals, counts, 0.5).ravel(), 4.0)


def test_sites_that_agree_are_left_alone() -> None:
    counts = np.array([[[2.0], [8.0]], [[5.0], [5.0]], [[10.0], [0.0]]])
    totals = counts * 0.5
    np.testing.assert_allclose(winsorize(totals, counts, 0.5), totals)


@given(counts=counted)
def test_a_site_without_evaluations_of_a_model_adds_none(counts: NDArray[np.float64]) -> None:
    counts[0] = 0.0
    moved = winsorize(counts * 0.7, counts, 0.3)
    assert not moved[0].any()
    assert np.isfinite(moved).all()


def test_one_liar_among_ten_cannot_praise_a_model() -> None:
    counts = np.full((10, 4, 1), 5.0)
    totals = counts * 0.3
    totals[0] = counts[0]
    assert winsorize(totals, counts, 0.3)[0].sum() == pytest.approx(0.3 * 20)
