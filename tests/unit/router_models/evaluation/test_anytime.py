from dataclasses import replace
from math import inf

import numpy as np
import pytest

from router_models.artifacts.artifact import dump, load
from router_models.artifacts.router import Router
from router_models.evaluation.anytime import Differences, differences, look
from router_models.evaluation.off_policy import LoggedChoices
from router_models.training.kmeans import fit_kmeans
from router_models.training.settings import KMeansSettings
from router_models.types import Evaluations
from tests.fakes.artifacts import CREATED_AT, ENCODER, MODELS

RISK, TOLERANCE = 0.05, 0.02
EXPLORED = 0.1
"""Odds of what the former router would choose; the new one's choice has the rest."""


def drawn(rows: int, new: float, former: float, seed: int, guess: float = 0.5) -> Differences:
    """Differences of two routers that never agree, with these mean rewards, 0 or 1 each."""
    rng = np.random.default_rng(seed)
    is_former = rng.random(rows) < EXPLORED
    reward = (rng.random(rows) < np.where(is_former, former, new)).astype(float)
    residual = (reward - guess) / np.where(is_former, EXPLORED, 1.0 - EXPLORED)
    utility = np.where(is_former, -residual, residual)
    zeros = np.zeros(rows)
    return Differences(2.0 * utility, utility, zeros, np.full(rows, EXPLORED))


def share_rejected(rows: int, new: float, former: float, guess: float = 0.5) -> float:
    """Of 200 runs, in how many some look at the growing log says that the new one is worse."""
    runs = [look(drawn(rows, new, former, seed, guess), TOLERANCE) for seed in range(200)]
    return float(np.mean([run.is_worse(RISK) for run in runs]))


@pytest.mark.parametrize("guess", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("both", [0.1, 0.5, 0.95])
def test_a_router_as_good_as_the_former_is_seldom_called_worse_however_often_one_looks(both, guess):
    assert share_rejected(1500, both, both, guess) <= RISK


def test_a_loss_within_the_tolerance_is_seldom_called_worse():
    assert share_rejected(3000, 0.60, 0.61) <= RISK


def test_a_router_that_is_much_worse_is_found_out():
    assert share_rejected(1500, 0.3, 0.9) > 0.95


def test_a_model_that_gets_worse_after_a_long_good_time_is_found_out_soon():
    good, bad = drawn(20_000, 0.9, 0.5, 0), drawn(1_500, 0.2, 0.6, 1)
    then = Differences(
        *(
            np.concatenate([getattr(good, name), getattr(bad, name)])
            for name in ("utility", "quality", "cost_usd", "propensity")
        )
    )
    assert not look(good, TOLERANCE).is_worse(RISK)
    assert look(then, TOLERANCE).is_worse(RISK)


def test_what_was_found_once_stays_found():
    found = drawn(3000, 0.2, 0.9, 0)
    highest = [look(part(found, rows), TOLERANCE).log_capital for rows in range(0, 3001, 500)]
    assert highest == sorted(highest)
    assert look(found, TOLERANCE).p_value < 1e-6


def part(found: Differences, rows: int) -> Differences:
    columns = (found.utility, found.quality, found.cost_usd, found.propensity)
    return Differences(*(column[:rows] for column in columns))


def test_a_rare_choice_is_not_counted_where_choices_were_not_so_rare_before():
    found = drawn(200, 0.5, 0.5, 0)
    utility, propensity = found.utility.copy(), found.propensity.copy()
    utility[150], propensity[150] = -2000.0, 0.001
    odd = replace(found, utility=utility, propensity=propensity)
    assert look(odd, TOLERANCE).log_capital < 3.0


def test_a_rare_choice_cannot_ruin_the_test_either():
    found = drawn(200, 0.5, 0.5, 0)
    utility, propensity = found.utility.copy(), found.propensity.copy()
    utility[100], propensity[100] = 2.0 / EXPLORED, EXPLORED
    assert look(replace(found, utility=utility), TOLERANCE).log_capital > -inf


def test_without_answers_nothing_is_said():
    nothing = look(drawn(0, 0.5, 0.5, 0), TOLERANCE)
    assert (nothing.answers, nothing.p_value) == (0, 1.0)
    assert not nothing.is_worse(RISK)


def preferring(quality: tuple[float, float]) -> Router:
    """A router that expects the same of the two models on every query."""
    rows = logged(40, quality)
    table = np.tile(np.array(quality, np.float32), (40, 1))
    known = Evaluations(rows.embeddings, table, np.full_like(table, 1e-6), MODELS)
    fitted = fit_kmeans(known, KMeansSettings(n_clusters=2), 0)
    return load(dump(fitted, ENCODER, created_at=CREATED_AT, training={}, provenance={}), ENCODER)


def logged(rows: int, quality: tuple[float, float]) -> LoggedChoices:
    """Answers of two models drawn evenly."""
    rng = np.random.default_rng(3)
    answered = rng.integers(0, 2, rows)
    reward = (rng.random(rows) < np.array(quality)[answered]).astype(np.float32)
    return LoggedChoices(
        rng.standard_normal((rows, ENCODER.dimension)).astype(np.float32),
        answered.astype(np.intp),
        reward,
        np.full(rows, 1e-6, np.float32),
        np.full((rows, 2), 0.5, np.float32),
        MODELS,
        np.arange(rows),
    )


NOTHING = Evaluations(
    np.zeros((0, 4), np.float32),
    np.zeros((0, 2), np.float32),
    np.zeros((0, 2), np.float32),
    MODELS,
)


def test_a_router_does_not_differ_from_itself():
    same = preferring((0.9, 0.1))
    found = differences(same, same, logged(300, (0.9, 0.1)), NOTHING, 1.0)
    assert not found.utility.any()
    assert (found.propensity == 1.0).all()


def test_the_difference_of_two_routers_is_found_from_drawn_answers():
    good, bad, choices = preferring((0.8, 0.2)), preferring((0.2, 0.8)), logged(4000, (0.9, 0.1))
    found = differences(bad, good, choices, NOTHING, 1.0)
    assert found.quality.mean() == pytest.approx(0.1 - 0.9, abs=0.05)
    assert found.utility.mean() == pytest.approx(0.1 - 0.9, abs=0.05)
    assert look(found, TOLERANCE).is_worse(RISK)
    assert not look(differences(good, bad, choices, NOTHING, 1.0), TOLERANCE).is_worse(RISK)


def test_a_cost_without_bound_counts_as_a_lost_answer_and_no_more():
    dear = replace(logged(300, (0.9, 0.1)), cost_usd=np.full(300, 1e9, np.float32))
    found = differences(preferring((0.8, 0.2)), preferring((0.2, 0.8)), dear, NOTHING, 1.0)
    assert np.abs(found.utility).max() <= 2.0 / 0.5 + 1.0
