from dataclasses import replace

import numpy as np
import pytest

from router_models.evaluation.comparison import with_all_queries
from router_models.evaluation.frontier import bootstrap_weights
from router_models.evaluation.predictions import Predictions, judge_predictions
from router_models.types import Evaluations, Prediction
from tests.fakes.evaluations import made_up


def judged(quality, truth: Evaluations, *, means=0.5, cost_usd=None) -> Predictions:
    prediction = Prediction(
        np.broadcast_to(np.asarray(quality, np.float32), truth.quality.shape),
        truth.cost_usd if cost_usd is None else cost_usd,
    )
    weights = with_all_queries(bootstrap_weights(len(truth.quality), 60, np.random.default_rng(0)))
    mean_quality = np.full(len(truth.models), means, np.float32)
    return judge_predictions({"it": prediction}, truth, mean_quality, weights)["it"]


def coins(chance) -> Evaluations:
    """Answers of one model that are right with the chance given for each query."""
    chance = np.asarray(chance)
    right = np.random.default_rng(0).random(len(chance)) < chance
    quality = right.astype(np.float32)[:, None]
    return Evaluations(
        np.zeros((len(chance), 1), np.float32), quality, np.ones_like(quality), ("coin",)
    )


CHANCE = np.linspace(0.05, 0.95, 4000)


def test_predictions_that_are_right_on_average_have_next_to_no_calibration_error():
    assert judged(CHANCE[:, None], coins(CHANCE)).overall.calibration_error < 0.03


def test_predictions_that_are_too_sure_have_the_distance_as_their_calibration_error():
    found = judged(np.full((4000, 1), 0.9), coins(np.full(4000, 0.7)))
    assert found.overall.calibration_error == pytest.approx(0.2, abs=0.02)


def test_bins_hold_about_as_many_answers_each():
    bins = judged(CHANCE[:, None], coins(CHANCE)).overall.bins
    assert [each.answers for each in bins] == [400] * 10
    assert [each.predicted for each in bins] == sorted(each.predicted for each in bins)


def test_equal_predictions_share_a_bin():
    assert len(judged(0.5, coins(CHANCE)).overall.bins) == 1


def test_few_answers_make_few_bins():
    chance = CHANCE[::40]
    assert len(judged(chance[:, None], coins(chance)).overall.bins) == 2


def test_only_what_was_answered_counts():
    truth = made_up(400, share_answered=0.3)
    found = judged(np.nan_to_num(truth.quality, nan=0.7), truth)
    assert found.overall.squared_error == 0.0
    assert found.overall.answers == int(np.isfinite(truth.quality).sum())


def test_each_model_is_judged_on_its_own_answers():
    truth = made_up(200)
    quality, cost = truth.quality.copy(), truth.cost_usd.copy()
    quality[:, 1] = cost[:, 1] = np.nan
    found = judged(0.5, replace(truth, quality=quality, cost_usd=cost))
    assert list(found.models) == ["cheap", "writer", "dear"]
    assert found.models["dear"].calibration_error == pytest.approx(
        abs(truth.quality[:, 3].mean() - 0.5), abs=1e-6
    )


def test_knowing_the_query_is_better_than_knowing_the_models_mean():
    truth = made_up(300)
    means = float(truth.quality.mean())
    assert judged(0.9 * truth.quality, truth, means=means).over_means.high < 0
    assert judged(1.0 - truth.quality, truth, means=means).over_means.low > 0


def test_predicted_cost_is_compared_in_total():
    truth = made_up(100)
    assert judged(0.5, truth, cost_usd=2 * truth.cost_usd).overall.cost_ratio == pytest.approx(2)


def test_no_share_of_a_cost_of_nothing():
    truth = replace(made_up(100), cost_usd=np.zeros((100, 4), np.float32))
    assert np.isnan(judged(0.5, truth).overall.cost_ratio)


def test_two_routers_are_compared_answer_by_answer():
    truth = made_up(300, share_answered=0.3)
    near, far = (Prediction(np.nan_to_num(truth.quality) * by, truth.cost_usd) for by in (0.9, 0.5))
    weights = with_all_queries(bootstrap_weights(300, 60, np.random.default_rng(0)))
    found = judge_predictions({"near": near, "far": far}, truth, np.zeros(4, np.float32), weights)
    assert found["near"].over["far"].high < 0 < found["far"].over["near"].low
