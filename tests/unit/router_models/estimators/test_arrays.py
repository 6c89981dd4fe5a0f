import numpy as np
import pytest

from router_models.encoders.request_shape import WIDTH
from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import Scaler, fit_width, read_array


def test_takes_an_array_whose_open_lengths_may_be_anything():
    assert read_array({"x": np.zeros((2, 3))}, "x", (None, 3)).shape == (2, 3)


@pytest.mark.parametrize("shape", [(2,), (2, 4), (2, 3, 1)])
def test_refuses_an_array_of_another_shape(shape):
    with pytest.raises(ArtifactRejected, match=r"'x' has shape \(2, 3\)"):
        read_array({"x": np.zeros((2, 3))}, "x", shape)


def test_refuses_a_missing_array():
    with pytest.raises(ArtifactRejected, match="'x' is missing"):
        read_array({}, "x", (1,))


def test_scales_to_mean_0_and_deviation_1():
    rows = np.random.default_rng(0).normal(5.0, 3.0, (500, 4)).astype(np.float32)
    scaled = Scaler.fit(rows).apply(rows)
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1.0, atol=1e-4)


def test_switches_off_a_feature_that_never_varies():
    rows = np.array([[1.0, 7.0], [2.0, 7.0]], np.float32)
    np.testing.assert_array_equal(Scaler.fit(rows).apply(rows + 5)[:, 1], 0.0)


def test_cuts_a_feature_that_runs_away():
    scaler = Scaler.identity(1)
    np.testing.assert_array_equal(scaler.apply(np.array([[1e9], [-1e9]], np.float32)), [[8], [-8]])


def test_gives_rows_length_1_and_leaves_an_empty_one_at_0():
    unit = Scaler.identity(2).apply_unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


def test_scalers_are_equal_if_they_scale_alike():
    rows = np.random.default_rng(0).normal(5.0, 3.0, (50, 4)).astype(np.float32)
    fitted = Scaler.fit(rows)
    assert fitted.equals(Scaler.fit(rows.copy()))
    assert not fitted.equals(Scaler.identity(4))
    assert not fitted.equals(Scaler(fitted.shift, 2 * fitted.factor))
    assert not fitted.equals(Scaler(2 * fitted.shift, fitted.factor))


def test_the_identity_leaves_rows_as_they_are_and_shares_nothing_with_them():
    rows = np.array([[1.5, -7.0]], np.float32)
    scaled = Scaler.identity(2).apply(rows)
    np.testing.assert_array_equal(scaled, rows)
    assert not np.shares_memory(scaled, rows)


def test_reads_what_was_appended_later_as_if_it_were_not_there():
    rows = np.array([[1.5, -7.0, *[3.0] * WIDTH]], np.float32)
    np.testing.assert_array_equal(fit_width(rows, 2), [[1.5, -7.0]])
    np.testing.assert_array_equal(Scaler.identity(2).apply(rows), [[1.5, -7.0]])
    np.testing.assert_array_equal(Scaler.identity(2).apply(rows[0]), [1.5, -7.0])


def test_reads_zeros_where_nothing_was_appended():
    rows = np.array([[1.5, -7.0]], np.float32)
    filled = [1.5, -7.0, *[0.0] * WIDTH]
    np.testing.assert_array_equal(fit_width(rows, 2 + WIDTH), [filled])
    np.testing.assert_array_equal(Scaler.identity(2 + WIDTH).apply(rows[0]), filled)


def test_reads_no_vectors_of_any_other_length():
    with pytest.raises(ValueError, match="length 2, expected 3"):
        fit_width(np.zeros((1, 2), np.float32), 3)
