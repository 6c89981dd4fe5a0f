"""What every estimator promises, guarded or bare."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router_models.errors import ArtifactRejected
from router_models.training.settings import KMeansSettings, KnnSettings, MlpSettings, RidgeSettings
from router_models.training.train import fit, train
from tests.fakes.evaluations import DIMENSION, MODELS, made_up

pytestmark = pytest.mark.xdist_group("estimators")  # each is trained once
SETTINGS = (
    KMeansSettings(n_clusters=8, prior_rows=3.0),
    MlpSettings(hidden=16, max_epochs=12, learning_rate=1e-2),
    KnnSettings(neighbours=8),
    RidgeSettings(alpha=3.0),
)
NAMES = ("kmeans", "mlp", "knn", "ridge")


@pytest.fixture(scope="module", params=SETTINGS, ids=NAMES)
def chosen(request):
    return request.param


@pytest.fixture(scope="module", params=[1.0, 0.3], ids=["dense", "sparse"])
def rows(request):
    return made_up(share_answered=request.param)


@pytest.fixture(scope="module")
def held_out():
    return made_up(100, seed=1)


@pytest.fixture(scope="module", params=[False, True], ids=["bare", "guarded"])
def estimator(request, chosen, rows, held_out):
    if request.param:
        return train(rows, held_out, "", 0, chosen)
    return fit(rows, held_out, chosen, 0)


def test_predicts_a_quality_and_a_cost_for_every_query_and_model(estimator):
    prediction = estimator.predict(made_up(7, seed=2).embeddings)
    assert prediction.quality.shape == prediction.cost_usd.shape == (7, len(MODELS))
    assert prediction.quality.dtype == prediction.cost_usd.dtype == np.float32


@settings(max_examples=25, deadline=None)
@given(row=arrays(np.float32, DIMENSION, elements=st.floats(-1e4, 1e4, width=32)))
def test_keeps_quality_between_0_and_1_and_cost_never_negative(estimator, row):
    prediction = estimator.predict(row[np.newaxis])
    assert np.isfinite(prediction.quality).all()
    assert (prediction.quality >= 0).all()
    assert (prediction.quality <= 1.0001).all()
    assert np.isfinite(prediction.cost_usd).all()
    assert (prediction.cost_usd >= 0).all()


def test_predicts_the_same_for_a_query_alone_and_among_others(estimator):
    queries = made_up(20, seed=3).embeddings
    together = estimator.predict(queries)
    alone = [estimator.predict(query[np.newaxis]) for query in queries]
    quality = np.concatenate([prediction.quality for prediction in alone])
    cost = np.concatenate([prediction.cost_usd for prediction in alone])
    np.testing.assert_allclose(quality, together.quality, atol=1e-5)
    np.testing.assert_allclose(cost, together.cost_usd, atol=1e-7)


def test_comes_back_from_its_arrays_with_the_same_predictions(estimator):
    again = type(estimator).from_arrays(estimator.models, estimator.to_arrays())
    queries = made_up(20, seed=3).embeddings
    np.testing.assert_array_equal(
        again.predict(queries).quality, estimator.predict(queries).quality
    )
    np.testing.assert_array_equal(
        again.predict(queries).cost_usd, estimator.predict(queries).cost_usd
    )
    assert again.dimension == estimator.dimension == DIMENSION


def test_refuses_arrays_that_lack_one(estimator):
    arrays_of = estimator.to_arrays()
    for name in arrays_of:
        if name.endswith(".weight") or name in {"guard.kept", "guard.calibration"}:
            continue  # the MLP counts its layers by these; older guards have neither
        rest = {other: array for other, array in arrays_of.items() if other != name}
        with pytest.raises(ArtifactRejected):
            type(estimator).from_arrays(estimator.models, rest)


def test_refuses_arrays_made_for_other_models(estimator):
    with pytest.raises(ArtifactRejected):
        type(estimator).from_arrays((*estimator.models, "another"), estimator.to_arrays())


def test_refuses_arrays_that_are_not_finite(estimator):
    arrays_of = estimator.to_arrays()
    name = next(n for n in arrays_of if n.endswith("shift"))
    arrays_of[name] = np.full_like(arrays_of[name], np.nan)
    with pytest.raises(ArtifactRejected, match="not finite"):
        type(estimator).from_arrays(estimator.models, arrays_of)


def test_gives_the_same_bits_for_the_same_seed(chosen, rows, held_out):
    first, second = (train(rows, held_out, "", 7, chosen).to_arrays() for _ in range(2))
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes(), name


def test_learns_which_model_is_good_at_which_task(chosen, rows, held_out):
    estimator = fit(rows, held_out, chosen, 0)
    fresh = made_up(400, seed=4)
    cheapest_good = estimator.predict(fresh.embeddings)
    utility = cheapest_good.quality - 40.0 * cheapest_good.cost_usd
    picked = fresh.quality[np.arange(400), utility.argmax(axis=1)]
    assert picked.mean() > fresh.quality[:, :3].mean(axis=0).max() + 0.2


def test_predicts_costs_near_what_was_paid(chosen, rows, held_out):
    estimator = fit(rows, held_out, chosen, 0)
    fresh = made_up(400, seed=4)
    predicted = estimator.predict(fresh.embeddings).cost_usd.mean(axis=0)
    np.testing.assert_allclose(predicted, fresh.cost_usd.mean(axis=0), rtol=0.35)


def test_copes_with_a_model_that_nobody_asked(chosen, rows, held_out):
    quality, cost = rows.quality.copy(), rows.cost_usd.copy()
    quality[:, 1] = cost[:, 1] = np.nan
    kept = np.flatnonzero(np.isfinite(quality).any(axis=1))
    unasked = replace(
        rows,
        embeddings=rows.embeddings[kept],
        quality=quality[kept],
        cost_usd=cost[kept],
        tasks=(),
    )
    prediction = train(unasked, held_out, "", 0, chosen).predict(held_out.embeddings)
    assert np.isfinite(prediction.quality).all()
    assert np.isfinite(prediction.cost_usd).all()
