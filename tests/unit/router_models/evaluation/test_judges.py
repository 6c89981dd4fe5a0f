"""Judges are held against trusted grades: corrected, weighed, and found out when they change."""

from math import sqrt

import numpy as np
import pytest

from router_models.evaluation.judges import (
    LEAST_PAIRS,
    PRIOR_WEIGHT,
    RECENT,
    Estimate,
    drifts,
    estimate_mean,
    fit_correction,
    measure_judge,
    student_t,
)


def estimated(trusted, judged, alone) -> Estimate:
    found = estimate_mean(trusted, judged, alone)
    assert found is not None
    return found


def graded(rng, n_answers, bias=0.1, noise=0.15):
    """Draw what trusted graders say of answers, and what a biased judge does."""
    truth = rng.beta(3.0, 1.5, n_answers)
    judged = np.clip(truth + bias + rng.normal(0.0, noise, n_answers), 0.0, 1.0)
    return truth, judged


@pytest.mark.parametrize("n_pairs", [8, 20, 100])
def test_the_interval_holds_the_true_mean_as_often_as_it_says(n_pairs) -> None:
    rng, true_mean, draws = np.random.default_rng(n_pairs), 2 / 3, 800
    hits = 0
    for _ in range(draws):
        truth, judged = graded(rng, n_pairs + 400)
        found = estimated(truth[:n_pairs], judged[:n_pairs], judged[n_pairs:])
        hits += found.low <= true_mean <= found.high
    assert 0.925 <= hits / draws <= 0.98


def test_a_good_judge_makes_the_interval_much_smaller_and_adds_no_bias() -> None:
    rng = np.random.default_rng(3)
    means, widths, alone = [], [], []
    for _ in range(200):
        truth, judged = graded(rng, 1000, bias=0.15, noise=0.05)
        found = estimated(truth[:40], judged[:40], judged[40:])
        trusted_alone = estimated(truth[:40], judged[:40], [])
        means.append(found.mean)
        widths.append(found.stderr)
        alone.append(trusted_alone.stderr)
    assert np.mean(means) == pytest.approx(2 / 3, abs=0.01)
    assert np.mean(widths) < 0.6 * np.mean(alone)


def test_a_judge_that_knows_nothing_does_no_harm() -> None:
    rng = np.random.default_rng(4)
    truth, noise = rng.beta(3.0, 1.5, 60), rng.random(600)
    found = estimated(truth, noise[:60], noise[60:])
    assert found.judge_share < 0.15
    assert found.stderr < 1.1 * truth.std(ddof=1) / sqrt(60)


def test_without_enough_trusted_grades_nothing_is_claimed() -> None:
    few = [0.5] * (LEAST_PAIRS - 1)
    assert estimate_mean(few, few, [0.5] * 100) is None


def test_a_judge_that_says_one_thing_is_left_out_of_the_mean() -> None:
    found = estimated([0.0, 1.0, 0.0, 1.0, 1.0], [0.5] * 5, [0.5] * 10)
    assert found.mean == pytest.approx(0.6)
    assert found.judge_share == 0.0


def test_a_correction_undoes_what_the_judge_does() -> None:
    rng = np.random.default_rng(5)
    truth = rng.random(2000)
    correct = fit_correction(0.4 + 0.5 * truth, truth)
    assert correct(0.4) == pytest.approx(0.0, abs=0.02)
    assert correct(0.9) == pytest.approx(1.0, abs=0.02)
    assert correct(0.0) == 0.0


def test_few_pairs_hardly_correct() -> None:
    none, one = np.array([]), np.array([1.0])
    assert fit_correction(none, none)(0.3) == pytest.approx(0.3)
    assert 0.6 < fit_correction(one, 0 * one)(1.0) < 1.0


def test_the_weight_of_a_judge_is_what_it_explains() -> None:
    rng = np.random.default_rng(6)
    truth, judged = graded(rng, 200, noise=0.1)
    good, bad = measure_judge(judged, truth), measure_judge(rng.random(200), truth)
    assert good.weight > 0.6 > PRIOR_WEIGHT > 0.1 > bad.weight
    assert good.bias == pytest.approx(0.08, abs=0.03)
    assert measure_judge([], []).weight == PRIOR_WEIGHT
    assert measure_judge(1.0 - truth, truth).weight < 0.1


def test_a_judge_that_changes_loses_weight_at_once_and_is_measured_anew() -> None:
    rng = np.random.default_rng(7)
    truth, judged = graded(rng, 200, noise=0.1)
    before = measure_judge(judged, truth)
    judged[-RECENT:] = np.clip(0.95 + rng.normal(0.0, 0.02, RECENT), 0.0, 1.0)
    after = measure_judge(judged, truth)
    assert (before.has_drifted, after.has_drifted) == (False, True)
    assert after.pairs == RECENT
    assert after.weight < before.weight / 4


def test_a_steady_judge_is_seldom_taken_for_changed() -> None:
    rng = np.random.default_rng(8)
    alarms = [drifts(rng.normal(0.1, 0.2, 200)) for _ in range(2000)]
    assert sum(alarms) <= 6


@pytest.mark.parametrize(("freedom", "exact"), [(3, 3.182), (6, 2.447), (18, 2.101), (98, 1.984)])
def test_quantiles_of_student_s_t(freedom, exact) -> None:
    assert student_t(freedom) == pytest.approx(exact, rel=0.01)
