from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.errors import InvalidEvaluations
from router_models.evaluation.frontier import (
    LAMBDAS,
    Judge,
    Outcomes,
    bootstrap_weights,
    common_auc,
    complete,
    cost_saved,
    envelope,
    hull,
    hull_auc,
    interval,
    oracle_gain,
    own_range_auc,
    replicate,
    route,
)
from router_models.types import Evaluations, Prediction
from tests.fakes.evaluations import made_up

COST = np.array([1.0, 2.0, 4.0])
QUALITY = np.array([0.5, 0.8, 0.6])
POINTS = st.lists(
    st.tuples(st.floats(0.01, 10), st.floats(0, 1)), min_size=1, max_size=12, unique=True
)


def two_models(quality, cost) -> Evaluations:
    quality, cost = np.array(quality, np.float32), np.array(cost, np.float32)
    return Evaluations(np.zeros((len(quality), 1), np.float32), quality, cost, ("a", "b"))


def test_the_papers_auc_is_the_trapezoid_area_over_the_own_range():
    area = (0.5 + 0.8) / 2 * 1 + (0.8 + 0.6) / 2 * 2
    assert own_range_auc(COST, QUALITY) == pytest.approx(area / 3)


def test_the_papers_auc_of_a_single_cost_is_the_mean_quality():
    assert own_range_auc(np.ones(2), np.array([0.2, 0.4])) == pytest.approx(0.3)


def test_the_common_auc_is_0_below_the_cheapest_point_and_never_falls():
    area = 1.0 * 0.0 + 1.0 * 0.5 + 3.0 * 0.8
    assert common_auc(COST, QUALITY, 0.0, 5.0) == pytest.approx(area / 5)


def test_the_common_auc_of_a_range_without_width_is_the_best_affordable_quality():
    assert common_auc(COST, QUALITY, 2.0, 2.0) == 0.8
    assert common_auc(COST, QUALITY, 0.5, 0.5) == 0.0


def test_the_hull_auc_of_a_range_without_width_is_the_hull_there():
    assert hull_auc(COST, QUALITY, 2.0, 2.0) == pytest.approx(0.8)


def test_the_hull_drops_points_that_a_random_mix_beats():
    x, y = hull(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 0.1, 0.8, 0.8]))
    np.testing.assert_allclose(x, [0.0, 2.0])
    np.testing.assert_allclose(y, [0.0, 0.8])


@given(points=POINTS)
def test_the_hull_is_never_below_the_envelope(points):
    cost, quality = np.array(points).T
    x, y = envelope(cost, quality)
    corner_x, corner_y = hull(cost, quality)
    assert (np.interp(x, corner_x, corner_y) >= y - 1e-9).all()
    assert (np.diff(corner_x) > 0).all()
    assert (np.diff(corner_y) > 0).all()


def test_cost_saved_is_the_share_left_at_the_wanted_quality():
    assert cost_saved(COST, QUALITY, 0.7, 4.0) == pytest.approx(0.5)


@pytest.mark.parametrize(("wanted", "reference"), [(0.9, 4.0), (0.5, 0.0)])
def test_nothing_is_saved_where_quality_is_not_reached_or_was_free(wanted, reference):
    assert cost_saved(COST, QUALITY, wanted, reference) == 0.0


def test_a_high_lambda_buys_the_cheap_model_and_a_low_one_the_good_model():
    truth = two_models([[0.2, 0.9]] * 3, [[0.001, 0.01]] * 3)
    outcomes = route(Prediction(truth.quality, truth.cost_usd), truth)
    np.testing.assert_allclose(outcomes.quality[0], 0.9, rtol=1e-6)
    np.testing.assert_allclose(outcomes.quality[-1], 0.2, rtol=1e-6)
    assert len(outcomes.quality) == len(LAMBDAS) == 100


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_no_router_beats_the_oracle_at_any_lambda(seed):
    truth = made_up(40, seed=seed)
    guess = made_up(40, seed=seed + 1)
    judge = Judge.of(truth)
    routed = route(Prediction(guess.quality, guess.cost_usd), truth)
    for point, price in enumerate(LAMBDAS):
        best = (judge.oracle.quality[point] - price * judge.oracle.cost_usd[point]).mean()
        got = (routed.quality[point] - price * routed.cost_usd[point]).mean()
        assert got <= best + 1e-6 * max(1.0, price)


def test_naiq_is_1_for_the_oracle_and_0_for_the_best_random_mix():
    judge = Judge.of(made_up(200))
    assert judge.figures(judge.oracle).naiq == pytest.approx(1.0)
    assert judge.figures(judge.mix()).naiq == pytest.approx(0.0, abs=0.01)


def test_naiq_is_0_where_no_choice_can_gain_anything():
    judge = Judge.of(two_models([[0.5, 0.5]] * 3, [[0.1, 0.1]] * 3))
    assert judge.figures(judge.oracle).naiq == 0.0


def test_the_mix_begins_at_the_best_model_and_ends_at_the_cheapest():
    truth = made_up(300)
    judge = Judge.of(truth)
    cost, quality = judge.mix().points()
    assert quality[0] == pytest.approx(truth.quality.mean(axis=0).max(), abs=1e-6)
    assert cost[-1] == pytest.approx(truth.cost_usd.mean(axis=0).min(), rel=1e-5)


def test_the_best_single_model_is_the_cheaper_of_equals():
    assert Judge.of(two_models([[0.5, 0.5]] * 3, [[0.2, 0.1]] * 3)).best_single() == 1


def test_bootstrap_draws_weigh_every_query_alike_on_average():
    weights = bootstrap_weights(50, 400, np.random.default_rng(0))
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert abs(weights.mean(axis=0) - 0.02).max() < 0.005


def test_an_interval_holds_the_value_and_narrows_with_more_queries():
    widths = []
    for n_queries in (50, 800):
        truth = made_up(n_queries)
        judge = Judge.of(truth)
        weights = bootstrap_weights(n_queries, 60, np.random.default_rng(1))
        drawn = replicate(judge, judge.oracle, weights)["best_quality"]
        bounds = interval(judge.figures(judge.oracle).best_quality, drawn)
        assert bounds.low <= bounds.value <= bounds.high
        widths.append(bounds.high - bounds.low)
    assert widths[1] < widths[0]


def test_keeps_models_with_coverage_then_rows_that_all_of_them_answered():
    rows = made_up(100)
    quality, cost = rows.quality.copy(), rows.cost_usd.copy()
    quality[:50, 1] = cost[:50, 1] = np.nan
    quality[:3, 0] = cost[:3, 0] = np.nan
    kept = complete(replace(rows, quality=quality, cost_usd=cost))
    assert kept.models == ("cheap", "writer", "dear")
    assert len(kept.quality) == len(kept.tasks) == 97


def test_keeps_rows_without_task_labels():
    assert complete(replace(made_up(10), tasks=())).tasks == ()


def test_refuses_a_table_in_which_no_query_was_answered_by_all():
    rows = made_up(100)
    quality = np.where(np.eye(4, dtype=bool)[np.arange(100) % 4], rows.quality, np.nan)
    with pytest.raises(InvalidEvaluations, match="every model answered"):
        complete(replace(rows, quality=quality.astype(np.float32)))


def test_the_oracle_keeps_all_of_its_gain_and_the_best_single_model_none():
    truth = made_up(200)
    perfect = Prediction(truth.quality, truth.cost_usd)
    lambdas = np.array([0.1])
    assert oracle_gain(perfect, truth, lambdas) == pytest.approx(1.0)
    best = np.zeros_like(truth.quality)
    best[:, truth.quality.mean(axis=0).argmax()] = 1.0
    assert oracle_gain(Prediction(best, truth.cost_usd), truth, lambdas) == pytest.approx(0.0)


def test_the_gain_counts_only_models_that_answered():
    truth = made_up(300, share_answered=0.4)
    gain = oracle_gain(
        Prediction(np.nan_to_num(truth.quality, nan=1.0), np.nan_to_num(truth.cost_usd, nan=0.0)),
        truth,
        np.array([0.1, 10.0]),
    )
    assert gain == pytest.approx(1.0)


def test_there_is_no_gain_where_all_models_are_alike():
    truth = two_models([[0.5, 0.5]] * 3, [[0.1, 0.1]] * 3)
    assert oracle_gain(Prediction(truth.quality, truth.cost_usd), truth, LAMBDAS) == 0.0


def test_weighted_points_are_weighted_means():
    outcomes = Outcomes(np.array([[0.0, 1.0]]), np.array([[1.0, 3.0]]))
    cost, quality = outcomes.points(np.array([0.25, 0.75]))
    assert (cost[0], quality[0]) == (2.5, 0.75)
