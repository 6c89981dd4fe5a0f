from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget.policies.mdp import CHOICES, FEATURES, allot, features, project, raise_choice, reward
from budget.policies.policy import StaticPolicy
from budget.policies.types import TurnState

STATE = TurnState(budget_tokens=8000, remaining_tokens=8000)
tokens = st.integers(-10_000, 10_000)


class Undecided:
    """Prefers the second of three choices, and says how much."""

    kind: ClassVar[str] = "undecided"
    choices = (100, 200, 400)

    def probabilities(self, state):
        return np.array([0.25, 0.5, 0.25], np.float32)


def allotted(state=STATE, seed=0, **options):
    return allot(Undecided(), state, np.random.default_rng(seed), **options)


@given(tokens, tokens, st.integers(0, 1000))
def test_an_allotment_never_passes_what_remains_beyond_the_reserve(proposed, remaining, reserve):
    fits = project(proposed, remaining, reserve)
    assert fits >= 0
    assert fits <= max(remaining - reserve, 0)
    assert fits <= max(proposed, 0)


def test_a_proposal_that_fits_stays_as_it_is():
    assert project(512, 4000, 100) == 512


def test_reward_is_the_papers_formula():
    found = reward(np.array([1, 1, 0]), np.array([3000, 3500, 4000]), 3000)
    np.testing.assert_allclose(found, [1.0, 0.5, -1.0])


def test_tokens_within_the_budget_cost_nothing():
    assert reward(np.array([1]), np.array([2999]), 3000)[0] == 1.0


def test_features_are_as_many_as_are_documented():
    assert features(STATE).shape == (len(FEATURES),)


@given(st.integers(0, 10**7), st.integers(-(10**7), 10**7), st.integers(0, 10**4))
def test_features_of_any_ledger_are_finite(budget, remaining, turn):
    state = TurnState(budget_tokens=budget, remaining_tokens=remaining, turn_index=turn)
    assert np.isfinite(features(state)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"remaining_tokens": 100},
        {"used_tokens": 500},
        {"budget_tokens": 100},
        {"turn_index": 3},
        {"was_cut_off": True},
        {"cut_off_turns": 1},
        {"prompt_chars": 400},
        {"history_chars": 400},
        {"quality": 0.5},
        {"cost_usd": 0.01},
        {"plan": np.zeros((3, 2), np.float32)},
    ],
)
def test_features_tell_states_apart(change):
    assert not np.array_equal(features(STATE), features(replace(STATE, **change)))


def test_without_exploration_the_likeliest_choice_is_taken():
    allotment = allotted()
    assert allotment.allotted_tokens == 200
    assert allotment.propensity == 1.0
    assert allotment.probabilities == (0.0, 1.0, 0.0)


def test_records_the_policys_version():
    assert allotted(policy_version="tab-1").policy_version == "tab-1"


def test_draws_each_choice_as_often_as_its_propensity_says():
    rng = np.random.default_rng(0)
    drawn = [allot(Undecided(), STATE, rng, exploration=0.4) for _ in range(4000)]
    for choice, propensity in enumerate(drawn[0].probabilities):
        share = np.mean([one.choice == choice for one in drawn])
        assert share == pytest.approx(propensity, abs=0.03)
    assert drawn[0].probabilities == pytest.approx(
        (0.6 * 0.25 + 0.4 / 3, 0.6 * 0.5 + 0.4 / 3, 0.6 * 0.25 + 0.4 / 3)
    )
    assert all(one.propensity == one.probabilities[one.choice] for one in drawn)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_refuses_to_explore_by_an_impossible_share(share):
    with pytest.raises(ValueError, match="exploration"):
        allotted(exploration=share)


def test_a_cut_off_turn_raises_the_next_proposal_by_one_choice():
    starved = replace(STATE, was_cut_off=True)
    assert allotted(starved, raises_after_cut_off=True).proposed_tokens == 400
    assert allotted(starved).proposed_tokens == 200
    assert allotted(raises_after_cut_off=True).proposed_tokens == 200


def test_the_largest_choice_is_raised_no_further():
    assert raise_choice(2, (1, 2, 3), was_cut_off=True) == 2


def test_the_allotment_is_what_is_left_once_the_reserve_is_kept_back():
    poor = replace(STATE, remaining_tokens=150)
    allotment = allotted(poor, reserve_tokens=50)
    assert (allotment.proposed_tokens, allotment.allotted_tokens) == (200, 100)


def test_nothing_is_allotted_once_nothing_remains():
    spent = replace(STATE, remaining_tokens=0)
    assert allotted(spent).allotted_tokens == 0


def test_one_choice_is_chosen_even_when_exploring():
    found = allot(StaticPolicy((700,)), STATE, np.random.default_rng(0), exploration=1.0)
    assert (found.allotted_tokens, found.propensity) == (700, 1.0)


def test_the_papers_choices_double():
    assert CHOICES == (256, 512, 1024, 2048, 4096)
