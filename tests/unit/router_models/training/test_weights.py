"""An answer counts in training for as much as its grade says of it."""

from dataclasses import replace

import numpy as np
import pytest

from router_models.errors import InvalidEvaluations
from router_models.estimators.kmeans import CellStatistics
from router_models.estimators.knn import NearestNeighbours
from router_models.estimators.ridge import RidgeSums
from router_models.evaluation.routing_value import RoutingValue
from router_models.statistics import check, join, model_means, select, select_models
from router_models.training.calibration import fit_calibration
from router_models.training.guard import fit_guard
from router_models.training.kept import borne_out
from router_models.training.settings import (
    KMeansSettings,
    KnnSettings,
    MlpSettings,
    RidgeSettings,
    Settings,
)
from router_models.training.train import fit, train
from router_models.types import Evaluations, Prediction
from tests.fakes.evaluations import made_up

SETTINGS: dict[str, Settings] = {
    "kmeans": KMeansSettings(n_clusters=8),
    "knn": KnnSettings(neighbours=16),
    "mlp": MlpSettings(hidden=16, max_epochs=10),
    "ridge": RidgeSettings(),
}
EACH_KIND = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)


def weighing(rows: Evaluations, weight: float | np.ndarray) -> Evaluations:
    full = np.broadcast_to(np.asarray(weight, np.float32), rows.quality.shape)
    return replace(rows, weight=np.array(full))


def half_wrong(weight: float) -> Evaluations:
    """Queries whose answers were graded twice: rightly, and the other way round at a weight."""
    rows = made_up(200)
    wrong = replace(rows, quality=1.0 - rows.quality)
    return join(rows, weighing(wrong, weight))


@EACH_KIND
def test_rows_of_weight_1_make_the_very_router_that_rows_without_weights_make(settings):
    rows, held_out = made_up(120, share_answered=0.5), made_up(60, seed=1)
    plain = train(rows, held_out, "any", 0, settings).to_arrays()
    weighed = train(weighing(rows, 1.0), weighing(held_out, 1.0), "any", 0, settings).to_arrays()
    weighed.pop("inner.weight", None)
    weighed.pop("weight", None)
    assert [*plain] == [name for name in weighed if name in plain]
    for name, array in plain.items():
        assert array.tobytes() == weighed[name].tobytes(), name


@EACH_KIND
def test_wrong_grades_of_little_weight_hardly_move_what_is_predicted(settings):
    held_out = made_up(80, seed=1)
    true = fit(made_up(200), held_out, settings, 0).predict(held_out.embeddings).quality
    light, heavy = (
        fit(half_wrong(weight), held_out, settings, 0).predict(held_out.embeddings).quality
        for weight in (0.01, 1.0)
    )
    assert np.abs(light - true).mean() < 0.3 * np.abs(heavy - true).mean()


def test_two_answers_of_half_the_weight_add_up_to_one():
    rows = made_up(40, share_answered=0.5)
    halves = join(weighing(rows, 0.5), weighing(rows, 0.5))
    cluster = np.arange(40) % 3
    for gather in (CellStatistics.gather, _ridge_sums):
        once = gather(cluster, rows.quality, rows.cost_usd, 3, rows.counts)
        twice = gather(np.tile(cluster, 2), halves.quality, halves.cost_usd, 3, halves.counts)
        for name, array in once.to_arrays().items():
            np.testing.assert_allclose(twice.to_arrays()[name], array, rtol=1e-6)


def _ridge_sums(clusters, quality, cost_usd, n_clusters, counts):
    features = np.eye(n_clusters, dtype=np.float32)[clusters]
    return RidgeSums.gather(features, quality, cost_usd, counts).per_model()


def test_means_are_by_weight():
    quality = np.array([[1.0], [0.0], [np.nan]], np.float32)
    rows = Evaluations(np.zeros((3, 2), np.float32), quality, quality, ("one",))
    rows = weighing(rows, np.array([[0.3], [0.1], [0.9]]))
    np.testing.assert_allclose(model_means(rows), [[0.75], [0.75]], rtol=1e-6)


def test_selecting_and_joining_rows_keeps_their_weights():
    rows = weighing(made_up(10), np.linspace(0.1, 1.0, 40).reshape(10, 4))
    assert rows.weight is not None
    kept = select_models(select(rows, np.array([7, 2])), np.array([3, 0]))
    np.testing.assert_array_equal(kept.weight, rows.weight[[7, 2]][:, [3, 0]])
    both = join(made_up(10), rows)
    np.testing.assert_array_equal(both.weight, np.concatenate([np.ones((10, 4)), rows.weight]))


@pytest.mark.parametrize("weight", [0.0, -0.5, 1.5, np.nan])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(InvalidEvaluations, match="weight must be above 0 and at most 1"):
        check(weighing(made_up(10), weight))


def test_weights_of_another_shape_are_refused():
    with pytest.raises(InvalidEvaluations, match="weight has shape"):
        check(replace(made_up(10), weight=np.ones((3, 4), np.float32)))


def test_a_setting_is_valued_by_what_heavy_answers_say():
    truth = made_up(200)
    guess = Prediction(np.full_like(truth.quality, 0.5), np.zeros_like(truth.cost_usd))
    wrong = replace(truth, quality=1.0 - truth.quality, cost_usd=truth.cost_usd)
    best = Prediction(truth.quality, truth.cost_usd)
    doubled = join(truth, weighing(wrong, 0.01))
    twice = Prediction(*(np.tile(each, (2, 1)) for each in (best.quality, best.cost_usd)))
    guessed = Prediction(*(np.tile(each, (2, 1)) for each in (guess.quality, guess.cost_usd)))
    exact = RoutingValue(truth, guess).of_routing(best).mean()
    by_weight = RoutingValue(doubled, guessed).of_routing(twice).mean()
    unweighed = RoutingValue(replace(doubled, weight=None), guessed).of_routing(twice).mean()
    assert abs(by_weight - exact) < 0.1 * abs(unweighed - exact)


def test_calibration_follows_heavy_answers():
    rows = half_wrong(0.01)
    predicted = np.tile(0.2 + 0.6 * made_up(200).quality, (2, 1)).astype(np.float32)
    assert fit_calibration(predicted, rows).slope > 1.5
    assert fit_calibration(predicted, replace(rows, weight=None)).slope < 0.5


def test_what_unknown_queries_keep_is_borne_out_by_heavy_answers():
    rows, far = made_up(200), half_wrong(0.01)
    guard = fit_guard(rows, made_up(50, seed=1), 0)
    far = replace(far, embeddings=-10.0 * far.embeddings)
    predicted = Prediction(*(np.tile(each, (2, 1)) for each in (rows.quality, rows.cost_usd)))
    by_weight, plain = (
        (slope.products / slope.squares)[0]
        for slope in (
            borne_out(guard, predicted, far),
            borne_out(guard, predicted, replace(far, weight=None)),
        )
    )
    assert by_weight > 0.9
    assert plain < 0.2


def test_neighbours_keep_their_weights_in_the_artefact():
    rows = half_wrong(0.2)
    made = fit(rows, made_up(20), SETTINGS["knn"], 0)
    again = NearestNeighbours.from_arrays(made.models, made.to_arrays())
    asked = made_up(30, seed=2).embeddings
    np.testing.assert_array_equal(again.predict(asked).quality, made.predict(asked).quality)
    np.testing.assert_array_equal(again.quality_stderr(asked), made.quality_stderr(asked))
