from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.artifacts.artifact import load
from router_models.errors import InvalidEvaluations
from router_models.evaluation.off_policy import (
    LoggedChoices,
    choose,
    effective_answers,
    policy_value,
    predict_columns,
)
from router_models.pricing import Prompts
from router_models.types import COMPLETION_MTOK, Prediction
from tests.fakes.artifacts import ENCODER, router_artifact

MODELS = ("small", "large", "other")
SEEDS = st.integers(0, 2**32 - 1)


def figures(rows: int, quality=(0.5, 0.5, 0.5), cost=(0.0, 0.0, 0.0)) -> Prediction:
    shape = (rows, len(MODELS))
    return Prediction(
        np.broadcast_to(np.float32(quality), shape), np.broadcast_to(np.float32(cost), shape)
    )


def drawn(rows: int, seed: int) -> tuple[LoggedChoices, np.ndarray]:
    """Models drawn by known odds, and the quality each would have had."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((rows, len(MODELS))) < np.array([0.3, 0.8, 0.5])).astype(np.float32)
    odds = rng.dirichlet(np.ones(len(MODELS)), rows) * 0.7 + 0.1
    answered = np.array([rng.choice(len(MODELS), p=row) for row in odds])
    at = np.arange(rows), answered
    cost = np.full(rows, 0.001, np.float32)
    embeddings = np.zeros((rows, 2), np.float32)
    shares, places = odds.astype(np.float32), np.arange(rows)
    return LoggedChoices(embeddings, answered, truth[at], cost, shares, MODELS, places), truth


@pytest.mark.parametrize("guess", [(0.5, 0.5, 0.5), (0.9, 0.1, 0.0)])
def test_finds_what_a_router_would_have_been_worth_whatever_the_guess(guess):
    choices, truth = drawn(20_000, 0)
    found = policy_value(figures(20_000, (0.0, 1.0, 0.0)), choices, figures(20_000, guess), 0.0)
    error = found.doubly_robust.std() / np.sqrt(20_000)
    assert abs(found.doubly_robust.mean() - truth[:, 1].mean()) < 4 * error
    assert abs(found.snips - truth[:, 1].mean()) < 0.02


def test_a_good_guess_narrows_the_estimate():
    choices, _ = drawn(5_000, 1)
    wanted = figures(5_000, (0.0, 1.0, 0.0))
    good = policy_value(wanted, choices, figures(5_000, (0.3, 0.8, 0.5)), 0.0)
    bad = policy_value(wanted, choices, figures(5_000, (0.0, 0.0, 0.0)), 0.0)
    assert good.doubly_robust.std() < 0.8 * bad.doubly_robust.std()


@given(SEEDS)
def test_a_router_that_asks_for_what_answered_anyway_gets_what_it_got(seed):
    choices, _ = drawn(30, seed)
    certain = np.eye(len(MODELS), dtype=np.float32)[choices.answered]
    choices = replace(choices, propensity=certain)
    found = policy_value(figures(30), choices, figures(30), 10.0)
    got = choices.quality - 10.0 * choices.cost_usd
    np.testing.assert_allclose(found.doubly_robust, got, atol=1e-6)
    assert found.effective_rows == pytest.approx(30)
    assert found.snips == pytest.approx(got.mean(), abs=1e-6)


@given(SEEDS)
def test_the_answers_that_happened_to_match_do_not_change_how_many_they_are_worth(seed):
    choices, _ = drawn(50, seed)
    elsewhere = replace(choices, answered=np.random.default_rng(seed).integers(0, 3, 50))
    one, other = (
        policy_value(figures(50, (0.0, 0.0, 1.0)), each, figures(50), 0.0)
        for each in (choices, elsewhere)
    )
    assert one.effective_rows == other.effective_rows
    assert 50 * choices.propensity[:, 2].min() <= one.effective_rows <= 50


def test_a_model_drawn_once_in_twenty_leaves_a_twentieth_of_the_answers():
    choices, _ = drawn(200, 0)
    rare = replace(choices, propensity=np.tile(np.array([0.9, 0.05, 0.05], np.float32), (200, 1)))
    assert effective_answers(np.full(200, 1), rare) == pytest.approx(10, rel=1e-6)


def test_answers_to_one_query_are_worth_one_however_many_they_are():
    choices, _ = drawn(60, 0)
    certain = replace(choices, propensity=np.ones((60, 3), np.float32), query=np.arange(60) // 6)
    assert effective_answers(choices.answered, certain) == pytest.approx(10)


def test_never_chooses_a_model_that_was_not_offered_or_is_unknown():
    choices = LoggedChoices(
        np.zeros((1, 2), np.float32),
        np.array([1]),
        np.array([0.75], np.float32),
        np.array([0.0], np.float32),
        np.array([[0.5, 0.5, 0.0]], np.float32),
        MODELS,
        np.array([0]),
    )
    prediction = figures(1, (-np.inf, 0.1, 1.0))
    found = policy_value(prediction, choices, figures(1), 0.0)
    assert found.snips == 0.75
    assert found.doubly_robust.tolist() == [0.5 + 2 * (0.75 - 0.5)]


def test_knows_nothing_where_no_answer_matches():
    choices = LoggedChoices(
        np.zeros((1, 2), np.float32),
        np.array([0]),
        np.array([1.0], np.float32),
        np.array([0.0], np.float32),
        np.array([[0.5, 0.5, 0.0]], np.float32),
        MODELS,
        np.array([0]),
    )
    found = policy_value(figures(1, (0.0, 1.0, 0.0)), choices, figures(1, (0, 0.25, 0)), 0.0)
    assert found.doubly_robust.tolist() == [0.25]
    assert np.isnan(found.snips)


def test_keeps_some_of_the_answers():
    choices, _ = drawn(5, 0)
    kept = choices.select(np.array([4, 1]))
    assert kept.query.tolist() == [4, 1]
    assert kept.answered.tolist() == choices.answered[[4, 1]].tolist()
    np.testing.assert_array_equal(kept.propensity, choices.propensity[[4, 1]])
    np.testing.assert_array_equal(kept.cost_usd, choices.cost_usd[[4, 1]])


def test_a_prediction_of_tokens_costs_what_the_models_charge_for_prompt_and_answer():
    router = load(router_artifact(unit=COMPLETION_MTOK), ENCODER)
    embeddings = np.ones((2, ENCODER.dimension), np.float32)
    prompts = Prompts(
        np.array([[100], [2000]], np.float32), np.array([[1e-6, 3e-6, 5e-6], [4e-6, 6e-6, 8e-6]])
    )
    models = ("large", "unknown", "small")
    found = predict_columns(router, embeddings, models, prompts)
    large, small = (router.predict(embeddings[0]).cost_usd[place] for place in (1, 0))
    np.testing.assert_allclose(
        found.cost_usd[:, 0], [100e-6 + 4 * large, 2000e-6 + 4 * large], 1e-5
    )
    np.testing.assert_allclose(found.cost_usd[:, 2], [500e-6 + 8 * small, 0.01 + 8 * small], 1e-5)
    assert np.isneginf(found.quality[:, 1]).all()


def test_a_prediction_of_tokens_has_no_cost_where_prompts_were_not_counted():
    router = load(router_artifact(unit=COMPLETION_MTOK), ENCODER)
    with pytest.raises(InvalidEvaluations, match="lack counts"):
        predict_columns(router, np.ones((1, ENCODER.dimension), np.float32), ("small",), None)


def test_of_no_models_and_no_answers_nothing_is_chosen():
    nothing = np.zeros((0, 0), np.float32)
    place, figure = np.empty(0, np.intp), np.empty(0, np.float32)
    choices = LoggedChoices(np.zeros((0, 2), np.float32), place, figure, figure, nothing, (), place)
    assert len(choose(Prediction(nothing, nothing), choices, 1.0)) == 0
    assert effective_answers(place, choices) == 0.0
