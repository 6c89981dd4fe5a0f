from dataclasses import replace

import numpy as np
import pytest

from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import Scaler
from router_models.estimators.calibration import Calibration
from router_models.estimators.guard import Guard, GuardedEstimator
from router_models.training.settings import RidgeSettings
from router_models.training.train import fit
from router_models.types import Prediction
from tests.fakes.evaluations import MODELS, made_up

MEANS = np.array([0.4, 0.6], np.float32)
COSTS = np.array([0.001, 0.01], np.float32)


@pytest.fixture
def guard():
    centroid = np.array([[1.0, 0.0]], np.float32)
    reach = np.array([0.5], np.float32)
    return Guard(Scaler.identity(2), centroid, reach, 0.4, 1.6, MEANS, COSTS)


def at_cosine(cosine: float) -> np.ndarray:
    return np.array([[cosine, np.sqrt(1 - cosine**2)]], np.float32)


@pytest.mark.parametrize(("cosine", "expected"), [(1.0, 1.0), (0.9, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_familiarity_falls_smoothly_from_near_to_far(guard, cosine, expected):
    assert guard.familiarity(at_cosine(cosine))[0] == pytest.approx(expected, abs=1e-5)


def test_leaves_a_familiar_prediction_alone(guard):
    prediction = Prediction(np.array([[0.9, 0.1]], np.float32), np.array([[1.0, 2.0]], np.float32))
    shrunk = guard.shrink(prediction, np.ones(1, np.float32))
    np.testing.assert_allclose(shrunk.quality, prediction.quality, rtol=1e-6)
    np.testing.assert_allclose(shrunk.cost_usd, prediction.cost_usd, rtol=1e-6)


def test_replaces_an_unfamiliar_prediction_by_the_models_means(guard):
    prediction = Prediction(np.array([[0.9, 0.1]], np.float32), np.array([[1.0, 2.0]], np.float32))
    shrunk = guard.shrink(prediction, np.zeros(1, np.float32))
    np.testing.assert_allclose(shrunk.quality, [MEANS])
    np.testing.assert_allclose(shrunk.cost_usd, [COSTS], atol=1e-7)


def test_an_unknown_prediction_keeps_its_share_of_the_difference_from_the_means(guard):
    guard = replace(guard, kept_quality=0.25, kept_cost=0.5)
    prediction = Prediction(
        MEANS + np.array([[0.4, -0.4]], np.float32), COSTS + np.array([[1.0, 2.0]], np.float32)
    )
    shrunk = guard.shrink(prediction, np.zeros(1, np.float32))
    np.testing.assert_allclose(
        shrunk.quality, [MEANS + np.array([0.1, -0.1], np.float32)], rtol=1e-5
    )
    np.testing.assert_allclose(
        shrunk.cost_usd, [COSTS + np.array([0.5, 1.0], np.float32)], rtol=1e-5
    )


def test_a_guard_that_keeps_everything_is_off(guard):
    guard = replace(guard, kept_quality=1.0, kept_cost=1.0)
    prediction = Prediction(np.array([[0.9, 0.1]], np.float32), np.array([[1.0, 2.0]], np.float32))
    shrunk = guard.shrink(prediction, np.zeros(1, np.float32))
    np.testing.assert_allclose(shrunk.quality, prediction.quality, rtol=1e-6)
    np.testing.assert_allclose(shrunk.cost_usd, prediction.cost_usd, rtol=1e-6)


def test_keeps_its_shares_when_it_is_stored(guard):
    arrays = replace(guard, kept_quality=0.25, kept_cost=0.5).to_arrays()
    loaded = Guard.from_arrays(("a", "b"), arrays)
    assert (loaded.kept_quality, loaded.kept_cost) == (0.25, 0.5)


def test_calibrates_before_it_moves_a_prediction_to_the_means(guard):
    guard = replace(guard, calibration=Calibration(0.0, 2.0), kept_quality=0.5)
    prediction = Prediction(np.array([[0.8, 0.5]], np.float32), np.array([[1.0, 2.0]], np.float32))
    known = guard.shrink(prediction, np.ones(1, np.float32)).quality
    unknown = guard.shrink(prediction, np.zeros(1, np.float32)).quality
    assert known[0, 0] == pytest.approx(16 / 17, abs=2e-3)
    np.testing.assert_allclose(unknown, MEANS + 0.5 * (known - MEANS), rtol=1e-5)


def test_keeps_its_calibration_when_it_is_stored(guard):
    arrays = replace(guard, calibration=Calibration(0.3, 1.5)).to_arrays()
    assert Guard.from_arrays(("a", "b"), arrays).calibration == Calibration(0.3, 1.5)


def test_a_guard_that_does_not_calibrate_is_stored_as_it_always_was(guard):
    assert "calibration" not in guard.to_arrays()
    assert Guard.from_arrays(("a", "b"), guard.to_arrays()).calibration == Calibration()


@pytest.mark.parametrize("kept", [[-0.1, 0.5], [0.5, 1.1]])
def test_refuses_to_keep_less_than_nothing_or_more_than_all(guard, kept):
    arrays = guard.to_arrays() | {"kept": np.array(kept)}
    with pytest.raises(ArtifactRejected, match="between 0 and 1"):
        Guard.from_arrays(("a", "b"), arrays)


def test_refuses_limits_in_the_wrong_order(guard):
    arrays = guard.to_arrays() | {"limits": np.array([2.0, 1.0])}
    with pytest.raises(ArtifactRejected, match="near < far"):
        Guard.from_arrays(("a", "b"), arrays)


@pytest.fixture
def guarded(guard):
    rows = made_up(60)
    inner = fit(rows, rows, RidgeSettings(), 0)
    means = np.full(4, 0.5, np.float32)
    centroids = np.eye(12, dtype=np.float32)
    reach = np.ones(12, np.float32)
    outer = Guard(Scaler.identity(12), centroids, reach, 0.1, 0.2, means, means)
    return GuardedEstimator(inner, outer)


def test_answers_with_the_familiarity_it_shrank_by(guarded):
    queries = made_up(5).embeddings
    prediction, familiarity = guarded.predict_with_familiarity(queries)
    np.testing.assert_array_equal(familiarity, guarded.familiarity(queries))
    np.testing.assert_array_equal(prediction.quality, guarded.predict(queries).quality)


def test_refuses_an_estimator_of_an_unknown_kind(guarded):
    arrays = guarded.to_arrays() | {"estimator.kind": np.frombuffer(b"oracle", np.uint8)}
    with pytest.raises(ArtifactRejected, match="unknown kind of estimator 'oracle'"):
        GuardedEstimator.from_arrays(MODELS, arrays)


def test_refuses_a_guard_of_another_dimension(guarded):
    arrays = guarded.to_arrays()
    arrays["guard.shift"] = arrays["guard.factor"] = np.ones(3, np.float32)
    arrays["guard.centroids"] = np.ones((12, 3), np.float32)
    with pytest.raises(ArtifactRejected, match="other dimensions"):
        GuardedEstimator.from_arrays(MODELS, arrays)
