import numpy as np
import pytest

from router_models.errors import ArtifactRejected
from router_models.estimators.calibration import Calibration

QUALITIES = np.linspace(0, 1, 101, dtype=np.float32)


def test_leaves_qualities_alone_where_nothing_was_learned():
    assert Calibration().apply(QUALITIES) is QUALITIES


@pytest.mark.parametrize("slope", [0.25, 0.9, 1.5, 2.0])
@pytest.mark.parametrize("shift", [-2.0, 0.0, 2.0])
def test_no_two_qualities_change_places_and_none_leaves_its_range(shift, slope):
    calibrated = Calibration(shift, slope).apply(QUALITIES)
    assert (np.diff(calibrated) > 0).all()
    assert calibrated.min() >= 0
    assert calibrated.max() <= 1


def test_multiplies_the_logit_and_adds_to_it():
    calibrated = Calibration(0.5, 2.0).apply(np.array([[0.2, 0.7]], np.float32))
    odds = np.exp(0.5) * (np.array([[0.2, 0.7]]) / np.array([[0.8, 0.3]])) ** 2
    np.testing.assert_allclose(calibrated, odds / (1 + odds), atol=0.002)
    assert calibrated.dtype == np.float32


@pytest.mark.parametrize(("shift", "slope"), [(0.0, 0.0), (0.0, -1.0), (0.0, 11.0), (-11.0, 1.0)])
def test_refuses_a_curve_that_falls_or_is_a_step(shift, slope):
    with pytest.raises(ArtifactRejected, match="slope above 0"):
        Calibration(shift, slope)
