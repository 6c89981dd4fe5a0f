import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import Scaler
from router_models.estimators.kmeans import CellStatistics, KMeansEstimator
from tests.fakes.evaluations import made_up

TWO_CLUSTERS = np.eye(2, dtype=np.float32)


def statistics_of(quality, cost, clusters) -> CellStatistics:
    return CellStatistics.gather(
        np.array(clusters), np.array(quality, np.float32), np.array(cost, np.float32), 2
    )


def estimator_of(statistics, models=("a",), **changes) -> KMeansEstimator:
    tenth = np.full(2, 0.1, np.float32)
    return KMeansEstimator(
        models, Scaler.identity(2), TWO_CLUSTERS, tenth, tenth * 10, statistics, **changes
    )


def test_shrinks_a_cell_to_what_is_expected_of_it():
    statistics = statistics_of([[1.0], [1.0], [0.0], [0.0]], [[2.0]] * 4, [0, 0, 0, 1])
    estimator = estimator_of(statistics, prior_rows=10.0, temperature=1e-3)
    quality = estimator.predict(TWO_CLUSTERS).quality[:, 0]
    easy, hard = statistics.prior_means()[0][:, 0]
    np.testing.assert_allclose(quality, [(2 + 10 * easy) / 13, (0 + 10 * hard) / 11], rtol=1e-5)


def test_does_not_take_a_model_for_good_because_it_was_asked_easy_questions():
    # Both were asked the hard ones of cluster 1, where "b" did better; "a" the easy ones as well.
    nan = np.nan
    quality = [[1.0, nan]] * 30 + [[0.2, 0.4]] * 10
    statistics = statistics_of(quality, np.full((40, 2), 0.01), [0] * 30 + [1] * 10)
    assert statistics.model_means()[0][0] > statistics.model_means()[0][1]
    expected, _ = statistics.prior_means()
    assert (expected[:, 1] > expected[:, 0] - 0.05).all()


def test_does_not_take_a_model_for_dear_because_it_was_asked_long_questions():
    nan = np.nan
    cost = [[0.02, nan]] * 30 + [[0.002, 0.004]] * 30
    quality = np.where(np.isnan(cost), nan, 0.5)
    statistics = statistics_of(quality, cost, [0] * 30 + [1] * 30)
    _, expected = statistics.prior_means()
    assert statistics.model_means()[1][0] > statistics.model_means()[1][1]
    assert (expected[:, 1] > expected[:, 0]).all()


def test_a_log_of_every_model_on_every_query_leads_to_expect_what_was_seen():
    rng = np.random.default_rng(0)
    ease, skill = np.repeat([0.2, -0.2], 200), np.array([0.3, 0.6])
    quality = np.clip(0.1 + ease[:, None] + skill, 0.0, 1.0)
    statistics = statistics_of(quality, rng.random((400, 2)), (ease < 0).astype(int))
    seen = statistics.quality_sum / statistics.count
    np.testing.assert_allclose(statistics.prior_means()[0], seen, atol=0.02)


def test_calls_that_cost_nothing_stay_free():
    statistics = statistics_of([[0.5, 0.6]] * 4, np.zeros((4, 2)), [0, 0, 1, 1])
    assert not statistics.prior_means()[1].any()


def test_gives_an_empty_cell_the_models_mean_and_not_zero():
    statistics = statistics_of([[0.8]] * 3, [[0.01]] * 3, [0, 0, 0])
    prediction = estimator_of(statistics).predict(TWO_CLUSTERS[1:])
    np.testing.assert_allclose(prediction.quality, 0.8, rtol=1e-5)
    np.testing.assert_allclose(prediction.cost_usd, 0.01, rtol=1e-5)


def test_expects_an_unseen_model_to_be_average_and_as_dear_as_the_dearest():
    nan = np.nan
    statistics = statistics_of([[0.2, 0.6, nan]] * 2, [[0.01, 0.03, nan]] * 2, [0, 1])
    prediction = estimator_of(statistics, models=("a", "b", "c")).predict(TWO_CLUSTERS[:1])
    np.testing.assert_allclose(prediction.quality[0, 2], 0.4, rtol=1e-5)
    np.testing.assert_allclose(prediction.cost_usd[0, 2], 0.03, rtol=1e-5)


def test_expects_nothing_when_no_model_was_ever_evaluated():
    empty = statistics_of([[np.nan]], [[np.nan]], [0])
    prediction = estimator_of(empty).predict(TWO_CLUSTERS)
    np.testing.assert_array_equal(prediction.quality, 0.0)


def test_mixes_both_clusters_half_way_between_them():
    statistics = statistics_of([[1.0]] * 500 + [[0.0]] * 500, [[1.0]] * 1000, [0] * 500 + [1] * 500)
    halfway = np.array([[1.0, 1.0]], np.float32)
    assert estimator_of(statistics).predict(halfway).quality[0, 0] == pytest.approx(0.5, abs=1e-3)


def test_weighs_a_large_tight_cluster_more_at_equal_distance():
    statistics = statistics_of([[1.0], [0.0]], [[1.0]] * 2, [0, 1])
    estimator = KMeansEstimator(
        ("a",),
        Scaler.identity(2),
        TWO_CLUSTERS,
        np.array([0.1, 0.3], np.float32),
        np.array([20.0, 10.0], np.float32),
        statistics,
    )
    weights = estimator.weights(np.array([[1.0, 1.0]], np.float32))
    np.testing.assert_allclose(weights, [[6 / 7, 1 / 7]], rtol=1e-4)


def test_assigns_each_row_to_its_nearest_centroid():
    estimator = estimator_of(statistics_of([[1.0]], [[1.0]], [0]))
    rows = np.array([[5.0, 1.0], [0.1, 0.2]], np.float32)
    np.testing.assert_array_equal(estimator.assign(rows), [0, 1])


@settings(deadline=None)
@given(cut=st.integers(1, 39))
def test_sums_of_two_clients_are_the_sums_of_their_pooled_rows(cut):
    rows = made_up(40, share_answered=0.5)
    clusters = np.arange(40) % 3

    def gather(part):
        return CellStatistics.gather(clusters[part], rows.quality[part], rows.cost_usd[part], 3)

    first, second, pooled = gather(slice(cut)), gather(slice(cut, None)), gather(slice(None))
    for name, array in pooled.to_arrays().items():
        np.testing.assert_allclose((first + second).to_arrays()[name], array, atol=1e-12)
        np.testing.assert_allclose(
            (pooled - second).to_arrays()[name], first.to_arrays()[name], atol=1e-12
        )


def test_models_join_and_leave_without_touching_the_sums_of_others():
    one = statistics_of([[0.5], [0.1]], [[1.0]] * 2, [0, 1])
    two = statistics_of([[0.9], [0.7]], [[2.0]] * 2, [0, 1])
    both = one.with_models(two)
    kept = (
        estimator_of(one).with_statistics(("a", "b"), both).statistics.select_models(np.array([0]))
    )
    np.testing.assert_array_equal(kept.quality_sum, one.quality_sum)
    alone = both.select_models(np.array([1]))
    np.testing.assert_array_equal(alone.quality_sum, two.quality_sum)


@pytest.mark.parametrize("settings_of", [[0.0, 0.05], [10.0, 0.0]])
def test_refuses_settings_it_cannot_predict_with(settings_of):
    arrays = estimator_of(statistics_of([[1.0]], [[1.0]], [0])).to_arrays()
    with pytest.raises(ArtifactRejected, match="prior rows"):
        KMeansEstimator.from_arrays(("a",), arrays | {"settings": np.array(settings_of)})
