import numpy as np
import pytest
from sklearn.linear_model import Ridge

from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import Scaler
from router_models.estimators.ridge import RidgeEstimator, RidgeSums
from tests.fakes.evaluations import MODELS, made_up

ALPHA = 7.0


def estimator_of(sums: RidgeSums, alpha: float = ALPHA) -> RidgeEstimator:
    dimension = sums.gram.shape[1] - 1
    return RidgeEstimator(
        MODELS, Scaler.identity(dimension), sums, alpha, np.full(4, 1e-5, np.float32)
    )


def sums_of(rows) -> RidgeSums:
    return RidgeSums.gather(rows.embeddings, rows.quality, rows.cost_usd)


def test_solves_the_same_heads_as_scikit_learn():
    rows = made_up(150)
    reference = Ridge(ALPHA).fit(rows.embeddings.astype(float), rows.quality)
    expected = np.clip(reference.predict(rows.embeddings), 0.0, 1.0)
    found = estimator_of(sums_of(rows)).predict(rows.embeddings).quality
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_solves_each_model_on_the_rows_it_answered():
    rows = made_up(150, share_answered=0.5)
    found = estimator_of(sums_of(rows)).predict(rows.embeddings).cost_usd
    answered = np.isfinite(rows.cost_usd[:, 2])
    reference = Ridge(ALPHA).fit(
        rows.embeddings[answered].astype(float), rows.cost_usd[answered, 2]
    )
    expected = np.maximum(reference.predict(rows.embeddings), 1e-5)
    np.testing.assert_allclose(found[:, 2], expected, atol=1e-6)


@pytest.mark.parametrize("share_answered", [1.0, 0.5])
def test_sums_of_two_clients_solve_to_the_pooled_router(share_answered):
    rows = made_up(120, share_answered=share_answered)

    def part(of):
        return RidgeSums.gather(rows.embeddings[of], rows.quality[of], rows.cost_usd[of])

    added = part(slice(70)) + part(slice(70, None))
    pooled = estimator_of(sums_of(rows)).predict(rows.embeddings)
    found = estimator_of(added).predict(rows.embeddings)
    np.testing.assert_allclose(found.quality, pooled.quality, atol=1e-6)
    np.testing.assert_allclose(found.cost_usd, pooled.cost_usd, atol=1e-8)


def test_keeps_one_gram_matrix_for_models_that_answered_the_same_queries():
    assert len(sums_of(made_up(50)).gram) == 1
    assert len(sums_of(made_up(50, share_answered=0.5)).gram) == len(MODELS)


def test_never_predicts_a_cost_below_the_lowest_seen():
    far = np.full((1, 12), -1e3, np.float32)
    assert estimator_of(sums_of(made_up(60))).predict(far).cost_usd.min() >= 1e-5


def test_refuses_a_penalty_of_zero():
    arrays = estimator_of(sums_of(made_up(60))).to_arrays() | {"settings": np.array([0.0])}
    with pytest.raises(ArtifactRejected, match="penalty"):
        RidgeEstimator.from_arrays(MODELS, arrays)


def test_refuses_an_index_outside_its_gram_matrices():
    arrays = estimator_of(sums_of(made_up(60))).to_arrays()
    arrays["sums.gram_of"] = np.array([0, 0, 0, 9])
    with pytest.raises(ArtifactRejected, match="points outside"):
        RidgeEstimator.from_arrays(MODELS, arrays)
