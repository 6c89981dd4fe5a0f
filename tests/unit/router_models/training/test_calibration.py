from dataclasses import replace

import numpy as np
import pytest

from router_models.estimators.calibration import Calibration, logit
from router_models.statistics import select
from router_models.training.calibration import fit_calibration
from router_models.types import Evaluations

MODELS = ("a", "b", "c", "d")


def answers(n_rows: int, seed: int = 0) -> tuple[np.ndarray, Evaluations]:
    """Predictions whose logits are half of the true ones, less 0.5, and what then happened."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(0.05, 0.95, (n_rows, len(MODELS)))
    timid = 1 / (1 + np.exp(0.5 - 0.5 * logit(true)))
    quality = (rng.random(true.shape) < true).astype(np.float32)
    vectors = rng.standard_normal((n_rows, 2)).astype(np.float32)
    return timid.astype(np.float32), Evaluations(vectors, quality, quality * 0.01, MODELS)


def thinned(truth: Evaluations) -> Evaluations:
    """Keep one answer of each query."""
    asked = np.random.default_rng(1).integers(0, len(MODELS), len(truth.quality))
    kept = np.arange(len(MODELS)) == asked[:, None]
    return replace(truth, quality=np.where(kept, truth.quality, np.float32(np.nan)))


def test_makes_timid_predictions_as_bold_as_the_answers_bear_out():
    calibration = fit_calibration(*answers(4000))
    assert calibration.slope == pytest.approx(2.0, abs=0.2)
    assert calibration.shift == pytest.approx(1.0, abs=0.2)


def test_one_answer_of_each_query_tells_about_the_same():
    predicted, truth = answers(4000)
    calibration = fit_calibration(predicted, thinned(truth))
    assert calibration.slope == pytest.approx(2.0, abs=0.3)


def test_a_few_rows_change_little():
    assert fit_calibration(*answers(8)).slope == pytest.approx(1.0, abs=0.3)


def test_a_query_that_was_sent_a_hundred_times_counts_once():
    predicted, truth = answers(400)
    sent = np.concatenate([np.arange(400), np.zeros(100, np.intp)])
    repeated = fit_calibration(predicted[sent], select(truth, sent))
    once = fit_calibration(predicted, truth)
    assert repeated.shift == pytest.approx(once.shift, abs=0.02)
    assert repeated.slope == pytest.approx(once.slope, abs=0.02)


def test_rows_without_an_answer_change_nothing():
    predicted, truth = answers(8)
    unanswered = replace(truth, quality=np.full_like(truth.quality, np.nan))
    assert fit_calibration(predicted, unanswered) == Calibration()


def test_never_turns_predictions_round():
    predicted, truth = answers(4000)
    calibration = fit_calibration(1 - predicted, truth)
    assert calibration.slope > 0
