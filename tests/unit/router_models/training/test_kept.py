from dataclasses import replace

import numpy as np
import pytest

from router_models.estimators.guard import Guard
from router_models.statistics import select
from router_models.training.guard import fit_guard
from router_models.training.kept import USUAL_KEPT, borne_out, with_kept
from router_models.types import Evaluations, Prediction
from tests.fakes.evaluations import made_up

PLACES = 32
DIMENSION = 16


def rows_of(skill_at_places: np.ndarray, *, share_answered: float = 1.0) -> Evaluations:
    """Queries at places along a curve: neighbours are worded alike. Two models, equally good."""
    rng = np.random.default_rng(0)
    place = rng.integers(0, PLACES, 4000)
    angles = np.linspace(0, np.pi, PLACES)[place, None] * np.arange(1, DIMENSION // 2 + 1)
    embeddings = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / np.arange(1, 17)
    embeddings += 0.002 * rng.standard_normal(embeddings.shape)
    edge = skill_at_places[place] + 0.05 * rng.standard_normal(len(place))
    quality = np.clip(np.stack([0.5 + edge, 0.5 - edge], axis=1), 0, 1).astype(np.float32)
    cost = (np.stack([1 + edge, 10 - 10 * edge], axis=1) / 1000).astype(np.float32)
    unanswered = rng.random(quality.shape) >= share_answered
    unanswered[np.arange(len(place)), rng.integers(0, 2, len(place))] = False
    quality[unanswered] = cost[unanswered] = np.nan
    return Evaluations(embeddings.astype(np.float32), quality, cost, ("a", "b"))


ALIKE = np.where(np.arange(PLACES) < PLACES // 2, 0.4, -0.4)
"""Neighbours favour one model, but for one place."""
AT_ODDS = np.where(np.arange(PLACES) // 4 % 2, 0.4, -0.4)
"""What one stretch of places favours, the next one does not."""


def fitted(rows: Evaluations) -> Guard:
    return fit_guard(rows, rows, seed=0)


def test_keeps_more_where_held_out_parts_bear_predictions_out():
    alike, at_odds = fitted(rows_of(ALIKE)), fitted(rows_of(AT_ODDS))
    assert alike.kept_quality > 0.5
    # How much less differs by .1 from one kind of CPU to another: clusters are found by sums.
    assert alike.kept_quality > at_odds.kept_quality + 0.3
    assert alike.kept_cost > at_odds.kept_cost + 0.3


def test_one_answer_per_query_tells_about_as_much():
    whole, sparse = fitted(rows_of(ALIKE)), fitted(rows_of(ALIKE, share_answered=0.0))
    assert sparse.kept_quality == pytest.approx(whole.kept_quality, abs=0.15)


def test_the_same_seed_keeps_the_same():
    rows = made_up(300)
    assert fitted(rows).kept_quality == fitted(rows).kept_quality


def test_keeps_the_usual_where_no_row_is_unknown():
    guard = replace(fitted(made_up(300)), near=1e6, far=2e6)
    kept = with_kept(guard, made_up(300), seed=0)
    assert (kept.kept_quality, kept.kept_cost) == USUAL_KEPT


def test_keeps_the_usual_where_there_is_one_cluster_only():
    few = fitted(select(made_up(300), np.arange(15)))
    assert (few.kept_quality, few.kept_cost) == USUAL_KEPT


def test_free_models_do_not_break_the_regression_of_costs():
    rows = made_up(300)
    free = replace(rows, cost_usd=np.zeros_like(rows.cost_usd))
    assert fitted(free).kept_cost == pytest.approx(USUAL_KEPT[1])


@pytest.fixture
def unlimited() -> Guard:
    """Knows nothing at all, so that every row is unknown."""
    guard = fitted(made_up(300))
    means = np.full(4, 0.5, np.float32)
    return replace(guard, near=1e-9, far=2e-9, quality_means=means, cost_means_usd=means)


def test_the_slope_is_the_share_of_predicted_differences_that_is_true(unlimited):
    rows = made_up(50)
    edge = np.array([[0.4, -0.4, 0.2, -0.2]], np.float32)
    prediction = Prediction(0.5 + np.repeat(edge, 50, 0), 0.5 + np.repeat(edge, 50, 0))
    truth = replace(
        rows, quality=0.5 + 0.25 * (prediction.quality - 0.5), cost_usd=0.5 + 0 * rows.cost_usd
    )
    slope = borne_out(unlimited, prediction, truth)
    np.testing.assert_allclose(slope.products / slope.squares, [0.25, 0.0], atol=1e-5)


def test_how_easy_a_query_is_counts_for_nothing(unlimited):
    rows = made_up(50)
    easy = np.float32(0.9) + np.zeros_like(rows.quality)
    slope = borne_out(unlimited, Prediction(easy, rows.cost_usd), rows)
    assert slope.squares[0] == pytest.approx(0.0, abs=1e-9)
