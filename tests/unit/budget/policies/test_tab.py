from dataclasses import replace
from time import process_time

import numpy as np
import pytest

from budget.policies.mdp import allot
from budget.policies.tab import AllSubQuestionsPolicy, TabPolicy
from budget.policies.types import TurnState
from router_models.errors import ArtifactRejected
from tests.fakes.policies import tab_policy

RNG = np.random.default_rng(1)
PLAN = RNG.standard_normal((4, 4)).astype(np.float32)
STATE = TurnState(
    budget_tokens=8000, remaining_tokens=4000, embedding=PLAN[1], plan=PLAN, plan_position=1
)
KINDS = [TabPolicy, AllSubQuestionsPolicy]


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_a_distribution(kind):
    probabilities = tab_policy(kind=kind).probabilities(STATE)
    assert probabilities.shape == (5,)
    assert probabilities.min() > 0
    assert probabilities.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change", [{"embedding": PLAN[2]}, {"remaining_tokens": 100}, {"was_cut_off": True}]
)
def test_question_and_ledger_move_the_probabilities(kind, change):
    policy = tab_policy(kind=kind)
    assert not np.allclose(
        policy.probabilities(STATE), policy.probabilities(replace(STATE, **change))
    )


def other_future() -> TurnState:
    return replace(STATE, plan=np.concatenate([PLAN[:3], -PLAN]))


def test_tab_does_not_see_the_coming_sub_questions():
    policy = tab_policy()
    np.testing.assert_array_equal(policy.probabilities(STATE), policy.probabilities(other_future()))


def test_all_subq_sees_the_coming_sub_questions():
    policy = tab_policy(kind=AllSubQuestionsPolicy)
    assert not np.allclose(policy.probabilities(STATE), policy.probabilities(other_future()))


@pytest.mark.parametrize("kind", KINDS)
def test_proposes_without_plan_or_embedding(kind):
    state = TurnState(budget_tokens=8000, remaining_tokens=8000)
    assert tab_policy(kind=kind).probabilities(state).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("position", [0, 3])
def test_the_first_turn_has_no_past_and_the_last_no_future(position):
    policy = tab_policy(kind=AllSubQuestionsPolicy)
    read = policy.read_questions(replace(STATE, plan_position=position)).reshape(5, -1)
    missing = read[1:3] if position == 0 else read[3:]
    assert not missing.any()
    assert read[0].any()


def test_the_present_question_is_the_plans_where_the_message_has_no_embedding():
    policy = tab_policy(kind=AllSubQuestionsPolicy)
    np.testing.assert_array_equal(
        policy.probabilities(STATE), policy.probabilities(replace(STATE, embedding=None))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_survives_being_stored(kind):
    policy = tab_policy(kind=kind)
    again = kind.from_arrays(policy.choices, policy.to_arrays())
    np.testing.assert_array_equal(again.probabilities(STATE), policy.probabilities(STATE))


def test_weights_of_all_subq_are_no_weights_of_tab():
    arrays = tab_policy(kind=AllSubQuestionsPolicy).to_arrays()
    with pytest.raises(ArtifactRejected, match="hidden"):
        TabPolicy.from_arrays((256, 512, 1024, 2048, 4096), arrays)


@pytest.mark.parametrize("kind", KINDS)
def test_a_proposal_costs_far_less_than_a_millisecond(kind):
    policy, rng = tab_policy(kind=kind, dimension=336), np.random.default_rng(0)
    plan = np.zeros((6, 336), np.float32)
    state = replace(STATE, embedding=plan[0], plan=plan)
    started = process_time()
    for _ in range(200):
        allot(policy, state, rng, exploration=0.05)
    assert (process_time() - started) / 200 < 1e-3
