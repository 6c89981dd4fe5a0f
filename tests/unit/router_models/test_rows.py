import numpy as np

from router_models.rows import pivot


def test_lays_answers_out_by_query_and_model():
    quality, cost = pivot(
        np.array([0, 1, 1]),
        np.array([1, 0, 1]),
        np.array([0.5, 1.0, 0.25]),
        np.array([0.1, 0.2, 0.3]),
        (3, 2),
    )
    np.testing.assert_array_equal(
        quality, np.array([[np.nan, 0.5], [1, 0.25], [np.nan] * 2], np.float32)
    )
    np.testing.assert_array_equal(
        cost, np.array([[np.nan, 0.1], [0.2, 0.3], [np.nan] * 2], np.float32)
    )


def test_averages_several_answers_of_one_model_to_one_query():
    quality, cost = pivot(
        np.array([0, 0]), np.array([0, 0]), np.array([0.0, 0.5]), np.array([1.0, 3.0]), (1, 1)
    )
    assert (quality.tolist(), cost.tolist()) == ([[0.25]], [[2.0]])


def test_no_answers_are_an_empty_table():
    empty = np.array([], np.intp)
    quality, cost = pivot(empty, empty, np.array([]), np.array([]), (2, 1))
    assert np.isnan(quality).all()
    assert np.isnan(cost).all()
