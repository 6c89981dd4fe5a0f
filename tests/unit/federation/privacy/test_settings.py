import numpy as np
import pytest

from federation.errors import PlanRefused
from federation.privacy.accounting import Release
from federation.privacy.settings import NoiseSettings

NOISE = NoiseSettings(1.5, {"cheap": 0.001, "dear": 0.1}, sampling_rate=0.25)


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise_multiplier": 0.0},
        {"longest_vector": -1.0},
        {"longest_gradient": 0.0},
        {"dearest_usd": {"cheap": 0.0}},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.5},
    ],
)
def test_refuses_what_hides_nothing(wrong) -> None:
    with pytest.raises(ValueError, match=r"above 0|lies in"):
        NoiseSettings(**{"noise_multiplier": 1.0, **wrong})


def test_gives_every_model_its_own_bound() -> None:
    np.testing.assert_array_equal(NOISE.cost_bounds_usd(("dear", "cheap")), [0.1, 0.001])


def test_refuses_a_model_without_a_bound() -> None:
    with pytest.raises(PlanRefused, match="strange"):
        NOISE.cost_bounds_usd(("dear", "strange"))


def test_a_gradient_of_sampled_queries_costs_one_sampled_step() -> None:
    assert NOISE.gradient() == Release(1.5, 0.25)


def test_a_message_of_sums_costs_one_full_step() -> None:
    assert NOISE.sums() == Release(1.5)
