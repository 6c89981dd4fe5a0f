from dataclasses import dataclass, replace

import numpy as np
import pytest

from federation.learning.personal import mixture_shares, personalise
from router_models.types import Prediction
from tests.fakes.clients import no_rows, without_model
from tests.fakes.evaluations import MODELS, made_up

ROWS = made_up(40)


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


def test_the_share_is_the_inverse_of_the_error_for_quality_and_cost_apart():
    quality, cost = mixture_shares(Off(0.1, 0.3), Off(0.3, 0.1), ROWS)
    np.testing.assert_allclose(quality, 0.75, rtol=1e-4)
    np.testing.assert_allclose(cost, 0.25, rtol=1e-4)


def test_a_model_without_held_out_rows_is_left_to_the_common_router():
    quality, cost = mixture_shares(Off(0.1, 0.1), Off(0.2, 0.2), without_model(ROWS, 1))
    assert quality[1] == cost[1] == 0.0
    assert quality[0] == pytest.approx(2 / 3)


def test_a_site_without_held_out_rows_is_left_to_the_common_router():
    assert not np.any(mixture_shares(Off(0.1, 0.1), Off(0.2, 0.2), no_rows()))


def test_routers_that_are_always_right_are_no_reason_to_be_personal():
    assert not np.any(mixture_shares(Off(0, 0), Off(0, 0), ROWS))


def test_the_mixture_errs_no_more_than_the_worse_of_both():
    mixture = personalise(Off(0.1, 0.3), Off(-0.3, 0.1), ROWS)
    error = mixture.predict(ROWS.embeddings).quality - ROWS.quality
    np.testing.assert_allclose(error, 0.75 * 0.1 - 0.25 * 0.3, atol=1e-6)


def test_does_not_look_at_rows_it_was_not_given():
    first = replace(
        ROWS,
        embeddings=ROWS.embeddings[:10],
        quality=ROWS.quality[:10],
        cost_usd=ROWS.cost_usd[:10],
    )
    np.testing.assert_allclose(mixture_shares(Off(0.1, 0.1), Off(0.1, 0.1), first), 0.5)
