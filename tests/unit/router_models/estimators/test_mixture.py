import numpy as np
import pytest

from router_models.errors import ArtifactRejected
from router_models.estimators.guard import Guard, GuardedEstimator
from router_models.estimators.kmeans import KMeansEstimator
from router_models.estimators.mixture import MixtureEstimator
from router_models.estimators.nesting import pack
from router_models.estimators.ridge import RidgeEstimator
from router_models.training.settings import KMeansSettings, RidgeSettings
from router_models.training.train import fit
from tests.fakes.evaluations import MODELS, made_up

ROWS = made_up(80)
QUERIES = made_up(9, seed=1).embeddings
LOCAL, SHARED = fit(ROWS, ROWS, RidgeSettings(), 0), fit(ROWS, ROWS, KMeansSettings(4), 0)


def mixture(quality_share=(0, 0.25, 0.5, 1), cost_share=(1, 0.5, 0.25, 0)):
    shares = [np.array(share, np.float32) for share in (quality_share, cost_share)]
    return MixtureEstimator(LOCAL, SHARED, *shares)


def test_mixes_each_model_by_its_share():
    mixed, local, shared = (e.predict(QUERIES) for e in (mixture(), LOCAL, SHARED))
    np.testing.assert_allclose(mixed.quality[:, 0], shared.quality[:, 0], rtol=1e-6)
    np.testing.assert_allclose(
        mixed.quality[:, 1], 0.25 * local.quality[:, 1] + 0.75 * shared.quality[:, 1], rtol=1e-5
    )
    np.testing.assert_allclose(mixed.quality[:, 3], local.quality[:, 3], atol=1e-6)
    np.testing.assert_allclose(
        mixed.cost_usd[:, 2], 0.25 * local.cost_usd[:, 2] + 0.75 * shared.cost_usd[:, 2], rtol=1e-5
    )


def test_comes_back_from_its_arrays():
    again = MixtureEstimator.from_arrays(MODELS, mixture().to_arrays())
    expected = mixture().predict(QUERIES)
    np.testing.assert_array_equal(again.predict(QUERIES).quality, expected.quality)
    np.testing.assert_array_equal(again.predict(QUERIES).cost_usd, expected.cost_usd)


def test_comes_back_inside_a_guard():
    assert isinstance(LOCAL, RidgeEstimator)
    assert isinstance(SHARED, KMeansEstimator)
    means = np.full(4, 0.5, np.float32)
    scaler = LOCAL.scaler
    guard = Guard(scaler, SHARED.centroids, np.ones(4, np.float32), 1.0, 2.0, means, means)
    outer = GuardedEstimator(mixture(), guard)
    again = GuardedEstimator.from_arrays(MODELS, outer.to_arrays())
    np.testing.assert_array_equal(again.predict(QUERIES).quality, outer.predict(QUERIES).quality)


def test_cannot_be_made_of_parts_for_other_models():
    other = type(SHARED).from_arrays(("a", "b", "c", "d"), SHARED.to_arrays())
    with pytest.raises(ValueError, match="the same models"):
        MixtureEstimator(LOCAL, other, mixture().quality_share, mixture().cost_share)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_refuses_a_share_out_of_range(share):
    arrays = mixture(cost_share=(0, 0, 0, share)).to_arrays()
    with pytest.raises(ArtifactRejected, match="between 0 and 1"):
        MixtureEstimator.from_arrays(MODELS, arrays)


def test_refuses_a_mixture_within_a_mixture():
    arrays = mixture().to_arrays() | pack("local.", mixture())
    with pytest.raises(ArtifactRejected, match="unknown kind of estimator 'mixture'"):
        MixtureEstimator.from_arrays(MODELS, arrays)


def test_refuses_parts_of_other_dimensions():
    narrow = type(ROWS)(ROWS.embeddings[:, :3], ROWS.quality, ROWS.cost_usd, MODELS)
    arrays = mixture().to_arrays() | pack("local.", fit(narrow, narrow, KMeansSettings(4), 0))
    with pytest.raises(ArtifactRejected, match="other dimensions"):
        MixtureEstimator.from_arrays(MODELS, arrays)
