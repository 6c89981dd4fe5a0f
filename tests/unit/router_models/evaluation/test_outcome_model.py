from dataclasses import replace

import numpy as np
import pytest

from router_models.artifacts.artifact import load
from router_models.evaluation.off_policy import LoggedChoices
from router_models.evaluation.outcome_model import fit_outcome_model, guess_outcomes
from router_models.types import Evaluations, Prediction
from tests.fakes.artifacts import ENCODER, router_artifact


def logged(quality, answered, queries=None, cost=0.01) -> LoggedChoices:
    """Answers of two models, each asked half of the time."""
    rows = len(answered)
    return LoggedChoices(
        np.random.default_rng(0).standard_normal((rows, ENCODER.dimension)).astype(np.float32),
        np.asarray(answered),
        np.asarray(quality, np.float32),
        np.full(rows, cost, np.float32),
        np.full((rows, 2), 0.5, np.float32),
        ("small", "large"),
        np.arange(rows) if queries is None else queries,
    )


def guess(rows: int, quality=0.5, cost=0.01) -> Prediction:
    shape = (rows, 2)
    return Prediction(np.full(shape, quality, np.float32), np.full(shape, cost, np.float32))


def test_a_guess_is_what_the_routers_predict_on_average():
    choices = logged(np.ones(4), [0, 1, 0, 1])
    routers = [load(router_artifact(seed), ENCODER) for seed in (0, 1)]
    nothing = np.full((1, 2), np.nan, np.float32)
    found = guess_outcomes(
        routers, choices, Evaluations(choices.embeddings[:1], nothing, nothing, choices.models)
    )
    each = [router.serving_estimator.predict(choices.embeddings) for router in routers]
    np.testing.assert_allclose(found.quality, (each[0].quality + each[1].quality) / 2, rtol=1e-5)
    np.testing.assert_allclose(found.cost_usd, (each[0].cost_usd + each[1].cost_usd) / 2, rtol=1e-5)


def test_a_model_that_no_router_knows_is_expected_to_do_as_it_did_in_other_rows():
    choices = replace(logged(np.ones(4), [0, 1, 0, 1]), models=("small", "stranger"))
    prior = Evaluations(
        choices.embeddings[:1],
        np.array([[0.5, 0.7]], np.float32),
        np.array([[0.1, 0.2]], np.float32),
        choices.models,
    )
    router = load(router_artifact(0), ENCODER)
    found = guess_outcomes([router], choices, prior)
    assert found.quality[:, 1] == pytest.approx(0.7)
    assert found.cost_usd[:, 1] == pytest.approx(0.2)
    assert found.quality[0, 0] != pytest.approx(0.5, abs=1e-3)


def test_a_guess_is_moved_towards_what_the_log_says_of_each_model():
    answered = np.tile([0, 1], 500)
    found = fit_outcome_model(guess(1000), logged(answered == 1, answered))
    assert (found.quality.modelled[:, 0] < 0.1).all()
    assert (found.quality.modelled[:, 1] > 0.9).all()
    assert found.cost_usd.modelled == pytest.approx(0.01)


def test_what_is_expected_of_an_answer_does_not_depend_on_it():
    answered = np.tile([0, 1], 50)
    graded = np.random.default_rng(0).integers(0, 2, 100).astype(np.float32)
    changed = graded.copy()
    changed[[3, 8]] = 1 - changed[[3, 8]]  # in one part of five
    one, other = (
        fit_outcome_model(guess(100), logged(each, answered)) for each in (graded, changed)
    )
    assert one.quality.modelled[[3, 8]].tolist() == other.quality.modelled[[3, 8]].tolist()
    assert one.quality.modelled[4].tolist() != other.quality.modelled[4].tolist()


def test_a_wrong_guess_is_expected_to_be_wrong():
    answered = np.tile([0, 1], 500)
    graded = (np.random.default_rng(0).random(1000) < 0.5).astype(np.float32)
    found = fit_outcome_model(guess(1000), logged(graded, answered))
    assert found.quality.squares.mean() == pytest.approx(0.25, rel=0.02)
    against = np.where(graded > 0, 0.1, 0.9).astype(np.float32)
    sure = fit_outcome_model(
        replace(guess(1000), quality=np.stack([against, against], axis=1)), logged(graded, answered)
    )
    assert sure.quality.squares.mean() > 0.5


@pytest.mark.parametrize(("is_same_again", "persistence"), [(True, 1.0), (False, 0.0)])
def test_answers_persist_as_far_as_repeated_queries_show(is_same_again, persistence):
    rng = np.random.default_rng(0)
    once = rng.integers(0, 2, 1000)
    again = once if is_same_again else rng.integers(0, 2, 1000)
    queries = np.concatenate([np.arange(1000), np.arange(1000)])
    choices = logged(np.concatenate([once, again]), np.zeros(2000, np.intp), queries)
    found = fit_outcome_model(guess(2000), choices)
    assert found.persistence == pytest.approx(persistence, abs=0.1)


def test_answers_are_believed_to_persist_where_nothing_was_asked_twice():
    assert fit_outcome_model(guess(10), logged(np.ones(10), np.zeros(10, np.intp))).persistence == 1


def test_surprises_that_go_together_widen_or_narrow_a_utility():
    answered = np.zeros(1000, np.intp)
    graded = np.random.default_rng(0).integers(0, 2, 1000).astype(np.float32)
    choices = replace(logged(graded, answered), cost_usd=0.01 + 0.005 * graded)
    found = fit_outcome_model(guess(1000, cost=0.0125), choices)
    assert found.correlation > 0.9
    apart = found.quality.squares + 20.0**2 * found.cost_usd.squares
    assert (found.utility(20.0).squares < apart).all()
    alone = replace(found, correlation=0.0).utility(20.0)
    np.testing.assert_allclose(alone.squares, apart)
    assert found.utility(20.0).observed == pytest.approx(graded - 20.0 * choices.cost_usd, abs=1e-6)


def test_places_of_queries_may_have_gaps():
    answered = np.tile([0, 1], 100)
    quality, places = np.tile([0.2, 0.8], 100), np.arange(200)
    found = fit_outcome_model(guess(200), logged(quality, answered, 5 * places))
    expected = fit_outcome_model(guess(200), logged(quality, answered, places))
    np.testing.assert_array_equal(found.quality.modelled, expected.quality.modelled)
