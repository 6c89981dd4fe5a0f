import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from budget.environments.conversation import Conversation
from tests.fakes.problems import trace_environment


def conversation(kinds, *, budget=10_000, decisive=None, is_enforced=True) -> Conversation:
    environment = trace_environment([kinds], None if decisive is None else [decisive])
    (solver,) = environment.start(0, np.random.default_rng(0))
    return Conversation(environment.problems[0], solver, budget, is_enforced)


def played(kinds, proposals, **options) -> Conversation:
    one = conversation(kinds, **options)
    for proposal in proposals:
        one.answer(proposal)
    return one


@given(st.lists(st.integers(0, 2000), min_size=4, max_size=4), st.integers(0, 3000))
def test_never_uses_more_than_its_budget(proposals, budget):
    one = played(["long", "hopeless", "easy", "long"], proposals, budget=budget)
    assert one.used_tokens <= budget


def test_the_papers_training_may_pass_the_budget():
    assert played(["hopeless"], [1000], budget=10, is_enforced=False).used_tokens == 1000


def test_the_final_answer_is_right_if_every_turn_is():
    assert played(["easy", "long"], [500, 500]).is_right


def test_one_wrong_decisive_turn_loses_the_problem():
    assert not played(["easy", "long", "easy"], [500, 100, 500]).is_right


def test_a_wrong_turn_that_is_not_decisive_loses_nothing():
    assert played(["hopeless", "easy"], [64, 64], decisive=[False, True]).is_right


def test_a_state_is_what_a_gateways_ledger_knows():
    one = played(["long", "easy", "easy"], [100], budget=1000)
    state = one.state()
    assert (state.budget_tokens, state.used_tokens, state.remaining_tokens) == (1000, 100, 900)
    assert (state.turn_index, state.was_cut_off, state.cut_off_turns) == (1, True, 1)
    assert (state.text, state.prompt_chars, state.history_chars) == ("easy", 4, 4 + 4 * 100)
    assert state.plan_position == 1
    assert state.plan_texts == ("long", "easy", "easy")


def test_remembers_that_an_earlier_turn_was_cut_off():
    state = played(["long", "easy", "easy"], [100, 100]).state()
    assert (state.was_cut_off, state.cut_off_turns) == (False, 1)


def test_is_over_after_its_last_turn():
    one = conversation(["easy"])
    was_over = one.is_over
    one.answer(64)
    assert (was_over, one.is_over) == (False, True)
    assert one.allotted_tokens == 64
