import numpy as np
import pytest

from budget.errors import InvalidProblems
from budget.policies.policy import BudgetPolicy
from budget.policies.types import TurnState
from budget.training.baselines import (
    baseline_families,
    cheapest_near_best,
    fit_difficulty,
    refine_choices,
)
from budget.training.evaluate import Outcomes
from tests.fakes.problems import EMBEDDINGS, trace_environment

ENVIRONMENT = trace_environment([["easy", "long", "easy"], ["long", "easy"]] * 10)
CHOICES = (64, 512, 2048)


def proposal(policy: BudgetPolicy, kind) -> int:
    embedding = np.array(EMBEDDINGS[kind], np.float32)
    state = TurnState(budget_tokens=9000, remaining_tokens=9000, embedding=embedding)
    return policy.choices[int(policy.probabilities(state).argmax())]


def outcome(accuracy, tokens) -> Outcomes:
    return Outcomes(np.array([accuracy]), np.array([tokens]), np.array([tokens]), 0)


def test_the_finer_grid_holds_the_coarse_one_and_goes_no_further():
    finer = refine_choices(CHOICES)
    assert set(CHOICES) < set(finer)
    assert finer[-1] == 2048
    assert list(finer) == sorted(finer)


def test_rates_questions_with_long_answers_as_harder():
    policy = fit_difficulty(ENVIRONMENT, refine_choices(CHOICES))
    assert proposal(policy, "long") > proposal(policy, "easy")


def test_questions_that_nobody_answered_rightly_teach_no_length():
    mixed = trace_environment([["easy", "hopeless"], ["easy", "hopeless"]])
    policy = fit_difficulty(mixed, CHOICES)
    assert policy.bias == pytest.approx(np.log(10), abs=0.01)


def test_refuses_problems_that_nobody_ever_solved():
    with pytest.raises(InvalidProblems, match="no answer"):
        fit_difficulty(trace_environment([["hopeless"]]), CHOICES)


def test_every_baseline_of_the_reference_is_there():
    families = baseline_families(ENVIRONMENT, CHOICES)
    assert set(families) == {"static", "proportional", "decay", "difficulty"}
    assert all(len(policies) > 1 for policies in families.values())


def test_is_tuned_to_the_cheapest_that_is_about_as_accurate_as_the_best():
    found = [outcome(0.5, 900.0), outcome(0.497, 500.0), outcome(0.4, 100.0)]
    assert cheapest_near_best(found) == 1
