from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.turn_budgets_llm.llm_policy import QUESTION_CHARS, LlmPolicy, render
from budget.policies.mdp import allot
from budget.policies.types import TurnState
from tests.fakes.language_models import tiny_model, tiny_tokenizer

CHOICES = (64, 512, 2048)
STATE = TurnState(
    budget_tokens=8000, remaining_tokens=4000, text="easy question", prompt_chars=13, turn_index=1
)


@pytest.fixture(scope="module")
def policy() -> LlmPolicy:
    return LlmPolicy.begin(CHOICES, tiny_model(), tiny_tokenizer())


def test_probabilities_are_a_distribution(policy):
    probabilities = policy.probabilities(STATE)
    assert probabilities.shape == (3,)
    assert probabilities.dtype == np.float32
    assert probabilities.min() > 0
    assert probabilities.sum() == pytest.approx(1.0)


def test_probabilities_are_the_models_own_odds_of_the_letters(policy):
    ids = torch.tensor(policy.tokenizer([render(STATE)], add_special_tokens=False)["input_ids"])
    with torch.no_grad():
        logits = policy.model(input_ids=ids).logits[0, -1, policy.labels]
    np.testing.assert_allclose(policy.probabilities(STATE), logits.softmax(0), rtol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"text": "hopeless question"},
        {"turn_index": 2},
        {"remaining_tokens": 400},
        {"was_cut_off": True},
        {"prompt_chars": 700},
    ],
)
def test_question_and_ledger_move_the_probabilities(policy, change):
    changed = policy.probabilities(replace(STATE, **change))
    assert not np.allclose(policy.probabilities(STATE), changed, rtol=1e-4)


def test_does_not_see_the_coming_sub_questions():
    plan = np.zeros((4, 2), np.float32)
    assert render(replace(STATE, plan=plan, plan_texts=("a", "b", "c", "d"))) == render(STATE)


def test_conversations_that_hardly_differ_have_the_same_prompt():
    assert render(replace(STATE, remaining_tokens=4100)) == render(STATE)


def test_reads_no_more_than_the_beginning_of_a_question():
    short, long = (render(replace(STATE, text="a" * n)) for n in (QUESTION_CHARS, 100_000))
    assert long == short


@pytest.mark.parametrize("state", [TurnState(budget_tokens=0, remaining_tokens=-5)])
def test_proposes_without_question_and_without_budget(policy, state):
    assert policy.probabilities(state).sum() == pytest.approx(1.0)


def test_a_prompt_among_others_is_read_as_if_it_were_alone(policy):
    prompts = [render(STATE), render(replace(STATE, text="a much longer question" * 4))]
    with torch.no_grad():
        together = policy.log_odds(prompts)
        alone = torch.cat([policy.log_odds([prompt]) for prompt in prompts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_without_its_habit_a_model_prefers_no_letter_on_average(policy):
    prompts = [render(replace(STATE, turn_index=turn)) for turn in range(6)]
    before = policy.log_odds(prompts).mean(dim=0)
    after = policy.without_habit(prompts).log_odds(prompts).mean(dim=0)
    assert before.amax() - before.amin() > 0.01
    assert after.amax() - after.amin() < 1e-3


def test_serves_behind_the_same_interface(policy):
    allotment = allot(policy, STATE, np.random.default_rng(0), exploration=0.1)
    assert allotment.proposed_tokens in CHOICES
    assert sum(allotment.probabilities) == pytest.approx(1.0)


def test_refuses_more_choices_than_there_are_letters():
    with pytest.raises(ValueError, match="30 choices"):
        LlmPolicy.begin(tuple(range(1, 31)), tiny_model(), tiny_tokenizer())


def test_refuses_a_tokenizer_that_spells_letters_in_pieces():
    def spelling(text, *, add_special_tokens):
        return {"input_ids": [[1, 2] for _ in text]}

    with pytest.raises(ValueError, match="no token of its own"):
        LlmPolicy.begin(CHOICES, tiny_model(), spelling)


def test_refuses_a_tokenizer_that_does_not_know_the_letters():
    def unknowing(text, *, add_special_tokens):
        return {"input_ids": [[0] for _ in text]}

    with pytest.raises(ValueError, match="no token of its own"):
        LlmPolicy.begin(CHOICES, tiny_model(), unknowing)


def test_what_was_learned_moves_to_another_copy_of_the_model(policy):
    other = LlmPolicy.begin(CHOICES, tiny_model(seed=1), tiny_tokenizer())
    other.load(policy.without_habit([render(STATE)]).learned())
    np.testing.assert_allclose(other.probabilities(STATE), 1 / 3, rtol=1e-5)


def test_does_not_take_over_weights_of_another_model(policy):
    other = LlmPolicy.begin(CHOICES, tiny_model(width=24), tiny_tokenizer())
    before = policy.probabilities(STATE)
    with pytest.raises(ValueError, match="another model"):
        policy.load(other.learned())
    np.testing.assert_array_equal(policy.probabilities(STATE), before)
