import numpy as np
import pytest

from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import Scaler
from router_models.estimators.knn import ROWS_AT_ONCE, NearestNeighbours

POINTS = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], np.float32)
QUALITY = np.array([[1.0, 0.2], [0.0, -1.0], [0.5, 0.4]], np.float32)
COST = np.array([[0.1, 0.3], [0.2, -1.0], [0.3, 0.5]], np.float32)


def neighbours_of(k: int, prior_rows: float = 1e-6) -> NearestNeighbours:
    return NearestNeighbours(("a", "b"), Scaler.identity(2), POINTS, QUALITY, COST, k, prior_rows)


def test_repeats_what_the_nearest_query_showed():
    prediction = neighbours_of(1).predict(np.array([[3.0, 0.1]], np.float32))
    np.testing.assert_allclose(prediction.quality, [[1.0, 0.2]], rtol=1e-4)
    np.testing.assert_allclose(prediction.cost_usd, [[0.1, 0.3]], rtol=1e-4)


def test_averages_over_those_neighbours_that_the_model_answered():
    prediction = neighbours_of(3).predict(POINTS[:1])
    np.testing.assert_allclose(prediction.quality, [[0.5, 0.3]], rtol=1e-4)
    np.testing.assert_allclose(prediction.cost_usd, [[0.2, 0.4]], rtol=1e-4)


def test_uses_every_row_when_fewer_than_k_are_there():
    np.testing.assert_array_equal(
        neighbours_of(50).predict(POINTS).quality, neighbours_of(3).predict(POINTS).quality
    )


def test_falls_back_on_the_models_mean_where_no_neighbour_was_answered():
    prediction = neighbours_of(1, prior_rows=1.0).predict(POINTS[1:2])
    np.testing.assert_allclose(prediction.quality[0, 1], 0.3, rtol=1e-5)


def test_a_model_that_never_answered_is_an_average_one_and_not_free():
    quality, cost = (np.c_[table, np.full(3, -1, np.float32)] for table in (QUALITY, COST))
    models = ("a", "b", "new")
    unknown = NearestNeighbours(models, Scaler.identity(2), POINTS, quality, cost, 2, 1.0)
    prediction = unknown.predict(POINTS)
    np.testing.assert_allclose(prediction.quality[:, 2], 0.4, rtol=1e-5)
    np.testing.assert_allclose(prediction.cost_usd[:, 2], 0.4, rtol=1e-5)


def test_refuses_rows_that_nobody_answered():
    arrays = neighbours_of(2).to_arrays() | {"quality": np.full_like(QUALITY, -1)}
    with pytest.raises(ArtifactRejected, match="needs an answer"):
        NearestNeighbours.from_arrays(("a", "b"), arrays)


def test_predicts_many_queries_in_blocks():
    many = np.tile(POINTS, (ROWS_AT_ONCE, 1))
    prediction = neighbours_of(2).predict(many)
    np.testing.assert_allclose(prediction.quality[-3:], prediction.quality[:3], rtol=1e-5)


def test_predicts_nothing_for_no_query():
    assert neighbours_of(2).predict(np.empty((0, 2), np.float32)).quality.shape == (0, 2)


@pytest.mark.parametrize("settings", [[0.0, 1.0], [3.0, 0.0]])
def test_refuses_settings_it_cannot_predict_with(settings):
    arrays = neighbours_of(2).to_arrays() | {"settings": np.array(settings)}
    with pytest.raises(ArtifactRejected, match="k >= 1"):
        NearestNeighbours.from_arrays(("a", "b"), arrays)
