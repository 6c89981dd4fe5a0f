from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget.policies.policy import (
    BudgetPolicy,
    DifficultyPolicy,
    SplitPolicy,
    StaticPolicy,
    one_hot_covering,
    one_hot_within,
)
from budget.policies.types import TurnState
from router_models.encoders.request_shape import WIDTH

CHOICES = (100, 200, 400)
STATE = TurnState(budget_tokens=1200, remaining_tokens=1200)


def proposal(policy: BudgetPolicy, state=STATE) -> int:
    probabilities = policy.probabilities(state)
    assert probabilities.sum() == 1.0
    return policy.choices[int(probabilities.argmax())]


def planned(n_turns, position, remaining):
    plan = np.zeros((n_turns, 2), np.float32)
    return replace(STATE, plan=plan, plan_position=position, remaining_tokens=remaining)


@given(st.floats(0, 1e6))
def test_the_largest_choice_within_and_the_smallest_that_covers_are_neighbours(tokens):
    within, covering = one_hot_within(tokens, CHOICES), one_hot_covering(tokens, CHOICES)
    assert within.sum() == covering.sum() == 1.0
    assert 0 <= int(covering.argmax()) - int(within.argmax()) <= 1


def test_static_proposes_the_same_whatever_the_state():
    policy = StaticPolicy(CHOICES, 1)
    assert proposal(policy) == proposal(policy, replace(STATE, remaining_tokens=1)) == 200


def test_a_proportional_split_gives_each_turn_to_come_the_same_share():
    policy = SplitPolicy(CHOICES, expected_turns=3)
    assert proposal(policy) == 400
    assert proposal(policy, replace(STATE, turn_index=1, remaining_tokens=400)) == 200
    assert proposal(policy, replace(STATE, turn_index=2, remaining_tokens=400)) == 400


def test_a_split_counts_the_turns_of_the_plan_where_there_is_one():
    policy = SplitPolicy(CHOICES, expected_turns=1)
    assert proposal(policy, planned(6, 0, 1200)) == 200
    assert proposal(policy, planned(6, 5, 1200)) == 400


def test_a_split_goes_on_after_more_turns_than_were_expected():
    assert proposal(SplitPolicy(CHOICES, expected_turns=2), replace(STATE, turn_index=9)) == 400


def test_a_decay_schedule_gives_early_turns_more():
    even, decaying = SplitPolicy(CHOICES, 6), SplitPolicy(CHOICES, 6, power=2.0)
    assert proposal(decaying) > proposal(even)


def test_a_longer_predicted_answer_is_allotted_more():
    policy = DifficultyPolicy(CHOICES, np.array([1.0], np.float32), bias=np.log(90.0))
    easy, hard = np.array([0.0], np.float32), np.array([1.0], np.float32)
    assert proposal(policy, replace(STATE, embedding=easy)) == 100
    assert proposal(policy, replace(STATE, embedding=hard)) == 400
    assert proposal(policy) == 100


def test_tools_beside_a_question_do_not_change_how_long_its_answer_is_taken_to_be():
    policy = DifficultyPolicy(CHOICES, np.array([1.0], np.float32), bias=np.log(90.0))
    whole = np.array([1.0, *[0.5] * WIDTH], np.float32)
    assert proposal(policy, replace(STATE, embedding=whole)) == 400


def test_a_margin_covers_answers_longer_than_predicted():
    policy = DifficultyPolicy(CHOICES, np.zeros(1, np.float32), bias=np.log(90.0), margin=2.0)
    assert proposal(policy) == 200


@pytest.mark.parametrize(
    "policy",
    [
        StaticPolicy(CHOICES, 2),
        SplitPolicy(CHOICES, 4, 0.5),
        DifficultyPolicy(CHOICES, np.array([0.5, -0.5], np.float32), 5.0, 1.4),
    ],
    ids=lambda policy: policy.kind,
)
def test_survives_being_stored(policy):
    again = type(policy).from_arrays(policy.choices, policy.to_arrays())
    state = replace(STATE, embedding=np.array([1.0, 0.5], np.float32))
    np.testing.assert_array_equal(again.probabilities(state), policy.probabilities(state))
