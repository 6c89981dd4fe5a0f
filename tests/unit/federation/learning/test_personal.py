from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest

from federation.learning.personal import PRIOR_ROWS, mixture_shares, personalise
from router_models.statistics import select
from router_models.types import Estimator, Prediction
from tests.fakes.clients import no_rows, without_model
from tests.fakes.evaluations import MODELS, made_up

ROWS = made_up(40)
BELIEVED = 40 / (40 + PRIOR_ROWS)


@dataclass(frozen=True)
class Off:
    """Predicts the truth of `ROWS`, off by a constant."""

    quality: float
    cost_usd: float
    models: tuple[str, ...] = MODELS
    dimension: int = 12

    def predict(self, embeddings):
        rows = len(embeddings)
        return Prediction(
            ROWS.quality[:rows] + np.float32(self.quality),
            ROWS.cost_usd[:rows] + np.float32(self.cost_usd),
        )


def off(quality: float, cost_usd: float) -> Estimator:
    return cast("Estimator", Off(quality, cost_usd))


def test_the_share_is_the_inverse_of_the_error_for_quality_and_cost_apart():
    quality, cost = mixture_shares(off(0.1, 0.3), off(0.3, 0.1), ROWS)
    np.testing.assert_allclose(quality, 0.75 * BELIEVED, rtol=1e-4)
    np.testing.assert_allclose(cost, 0.25 * BELIEVED, rtol=1e-4)


def test_a_model_without_held_out_rows_is_left_to_the_common_router():
    quality, cost = mixture_shares(off(0.1, 0.1), off(0.2, 0.2), without_model(ROWS, 1))
    assert quality[1] == cost[1] == 0.0
    assert quality[0] == pytest.approx(2 / 3 * BELIEVED)


def test_a_site_without_held_out_rows_is_left_to_the_common_router():
    assert not np.any(mixture_shares(off(0.1, 0.1), off(0.2, 0.2), no_rows()))


def test_routers_that_are_always_right_are_no_reason_to_be_personal():
    assert not np.any(mixture_shares(off(0, 0), off(0, 0), ROWS))


def test_the_mixture_lies_between_both():
    mixture = personalise(off(0.1, 0.3), off(-0.3, 0.1), ROWS)
    error = mixture.predict(ROWS.embeddings).quality - ROWS.quality
    share = 0.75 * BELIEVED
    np.testing.assert_allclose(error, 0.1 * share - 0.3 * (1 - share), atol=1e-6)


def test_a_share_measured_on_few_rows_is_hardly_believed():
    few = select(ROWS, np.arange(2))
    quality, _ = mixture_shares(off(0.1, 0.1), off(0.3, 0.3), few)
    np.testing.assert_allclose(quality, 0.75 * 2 / (2 + PRIOR_ROWS), rtol=1e-4)
