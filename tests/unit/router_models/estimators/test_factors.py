import numpy as np
import pytest

from benchmarks.day_one.prior import fit_prior
from router_models.errors import ArtifactRejected
from router_models.estimators.factors import FactorsEstimator, expected_score
from tests.fakes.known_answers import known_answers


@pytest.fixture(scope="module")
def estimator():
    prior = fit_prior(known_answers(6), 0)
    return prior.estimator([("a", 0, (1.0, 2.0)), ("b", 5, (3.0, 4.0))], [])


def test_comes_back_from_its_arrays_with_the_same_predictions(estimator):
    again = FactorsEstimator.from_arrays(estimator.models, estimator.to_arrays())
    queries = known_answers(6, 20, seed=3).embeddings
    np.testing.assert_array_equal(
        again.predict(queries).quality, estimator.predict(queries).quality
    )
    np.testing.assert_array_equal(
        again.predict(queries).cost_usd, estimator.predict(queries).cost_usd
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base", np.array([0, 6])),
        ("base", np.array([-2, 0])),
        ("price", np.array([[1.0, 1.0], [1.0, -1.0]])),
        ("mean", np.zeros((2, 3))),
        ("profile.settings", np.array([0.0, 1.0])),
        ("profile.token_heads", np.zeros((7, 5))),
    ],
)
def test_refuses_arrays_that_cannot_be(estimator, name, value):
    arrays = {**estimator.to_arrays(), name: value}
    with pytest.raises(ArtifactRejected):
        FactorsEstimator.from_arrays(estimator.models, arrays)


def test_stays_finite_on_vectors_far_from_all_others(estimator):
    far = np.full((1, estimator.dimension), 1e6, np.float32)
    prediction = estimator.predict(far)
    assert np.isfinite(prediction.quality).all()
    assert np.isfinite(prediction.cost_usd).all()


def test_an_uncertain_logit_pulls_the_score_to_one_half_and_widens_its_error():
    mean, stderr = expected_score(np.full(3, 2.0), np.array([0.0, 1.0, 100.0]))
    assert mean[0] > mean[1] > mean[2] > 0.5
    assert stderr[0] == 0 < stderr[1] < stderr[2] <= 0.5
