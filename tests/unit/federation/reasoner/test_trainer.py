import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from federation.reasoner.lora import attach_lora, lora_weights
from federation.reasoner.prompts import batch_of
from federation.reasoner.rollouts import LocalSampler
from federation.reasoner.settings import ReasonerSettings
from federation.reasoner.trainer import Learner
from tests.fakes.digits import N_TOKENS, DigitTokenizer, digit_prompt, response
from tests.fakes.language_models import tiny_model

# peft asks a transformers model by a name that transformers 5 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

SETTINGS = ReasonerSettings(
    lora_rank=2,
    lora_alpha=4,
    group_size=4,
    prompts_per_step=4,
    max_new_tokens=2,
    max_response_tokens=3,
    learning_rate=0.02,
)
PROMPTS = [digit_prompt(f"{one} {two}", "0-4") for one in range(4) for two in range(4)]


class ScriptedSampler:
    """Gives the same answers to every prompt."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def sample(self, prompts, k, seed):
        return [[response(text) for text in self.texts] for _ in prompts]


def begin(sampler=None, seed: int = 0, **changes) -> Learner:
    settings = replace(SETTINGS, **changes)
    model = attach_lora(tiny_model(n_tokens=N_TOKENS), settings, seed=0)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(1))
    own = sampler or LocalSampler(model, DigitTokenizer(), settings)
    learner = Learner.begin(model, DigitTokenizer(), own, settings, seed)
    learner.start_round(lora_weights(model), 1)
    return learner


def same(one, other) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


def saved(checkpoint) -> dict[str, Any]:
    """Write a checkpoint to a file and read it without running anything in it."""
    file = io.BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    read: dict[str, Any] = torch.load(file, weights_only=True)
    return read


def moved(before, after) -> set[str]:
    return {name for name in before if not np.array_equal(before[name], after[name])}


def test_learns_to_give_right_answers():
    learner = begin(group_size=8)
    rewards = [
        learner.private_step(batch_of(PROMPTS, 8, step, seed=0)).reward for step in range(40)
    ]
    assert np.mean(rewards[:2]) < 0.6
    assert np.mean(rewards[-5:]) > 0.9


def test_figures_tell_what_a_step_did():
    figures = begin(ScriptedSampler("3", "9", "99", "3")).private_step(PROMPTS[:3])
    assert (figures.reward, figures.prompts, figures.prompts_used) == (0.5, 3, 3)
    assert (figures.tokens_generated, figures.answers_swapped) == (3 * 9, 0)


@pytest.mark.parametrize("text", ["3", "9"])
def test_a_step_without_spread_changes_nothing(text):
    learner = begin(ScriptedSampler(*[text] * 4))
    before = learner.weights()
    figures = learner.private_step(PROMPTS[:3])
    assert (figures.prompts_used, figures.loss, learner.prompts_used) == (0, 0.0, 0)
    assert same(before, learner.weights())
    assert learner.step == 1


def test_prompts_that_teach_are_counted_anew_in_each_round():
    learner = begin(ScriptedSampler("3", "9", "9", "9"))
    learner.private_step(PROMPTS[:3])
    learner.private_step(PROMPTS[:2])
    assert learner.prompts_used == 5
    learner.start_round(learner.weights(), 2)
    assert learner.prompts_used == 0


def test_a_public_step_brings_in_right_answers_of_others():
    learner = begin(ScriptedSampler("9", "9", "9", "9"))
    before = learner.weights()
    own = learner.answer_public(PROMPTS[:2])
    foreign = {PROMPTS[0].id: {"a": [response("3"), response("8")], "b": [response("93")]}}
    figures = learner.public_step(own, foreign)
    assert (figures.prompts_used, figures.answers_swapped, figures.tokens_swapped) == (1, 2, 5)
    assert figures.reward == 0.0
    assert moved(before, learner.weights())


@pytest.mark.parametrize(("swap", "n_swapped"), [("none", 0), ("random", 2), ("balanced", 0)])
def test_the_switch_says_how_answers_are_swapped(swap, n_swapped):
    learner = begin(ScriptedSampler("3", "3", "9", "9"), swap=swap)
    own = learner.answer_public(PROMPTS[:1])
    foreign = {PROMPTS[0].id: {"a": [response("1"), response("2")]}}
    assert learner.public_step(own, foreign).answers_swapped == n_swapped


def test_answers_of_others_in_bad_order_change_nothing():
    learner, alone = (begin(ScriptedSampler("3", "9", "9", "9")) for _ in range(2))
    bad = [response("9"), replace(response("3"), tokens=(3, 99), text="3")]
    learner.public_step(learner.answer_public(PROMPTS[:2]), {PROMPTS[0].id: {"a": bad}})
    alone.public_step(alone.answer_public(PROMPTS[:2]), {})
    assert same(learner.weights(), alone.weights())


def test_only_right_and_complete_answers_are_shared():
    (own,) = begin(ScriptedSampler("3", "9", "3", "4")).answer_public(PROMPTS[:1])
    cut = [replace(own.answers[0].response, is_complete=False), *own.shared[1:]]
    answers = [
        replace(one, response=seen) for one, seen in zip(own.answers[::2], cut, strict=False)
    ]
    assert [one.text for one in own.shared] == ["3", "3", "4"]
    assert len(replace(own, answers=tuple(answers)).shared) == 1


def test_answers_to_public_prompts_are_the_same_when_asked_again():
    learner = begin()
    assert learner.answer_public(PROMPTS[:3]) == learner.answer_public(PROMPTS[:3])
    assert learner.answer_public(PROMPTS) != begin(seed=1).answer_public(PROMPTS)


def test_public_answers_carry_what_a_sampler_could_not_tell():
    learner = begin()
    known = learner.answer_public(PROMPTS[:3])

    class Silent:
        def sample(self, prompts, k, seed):
            drawn = [[one.response for one in own.answers] for own in known]
            return [[replace(one, log_probabilities=()) for one in group] for group in drawn]

    learner.sampler = Silent()
    for own, expected in zip(learner.answer_public(PROMPTS[:3]), known, strict=True):
        for one, other in zip(own.answers, expected.answers, strict=True):
            assert one.response.log_probabilities == pytest.approx(
                other.response.log_probabilities, abs=1e-4
            )


def test_a_learner_that_was_killed_goes_on_where_it_was():
    whole, killed = begin(proximal_mu=0.1), begin(proximal_mu=0.1)
    for step in range(4):
        whole.private_step(batch_of(PROMPTS, 4, step, seed=0))
    for step in range(2):
        killed.private_step(batch_of(PROMPTS, 4, step, seed=0))
    checkpoint = saved(killed.checkpoint())
    killed.private_step(batch_of(PROMPTS, 4, 2, seed=0))
    later = begin(proximal_mu=0.1)
    later.resume(checkpoint)
    for step in range(2, 4):
        later.private_step(batch_of(PROMPTS, 4, step, seed=0))
    assert same(whole.weights(), later.weights())
    assert (whole.step, whole.prompts_used) == (later.step, later.prompts_used)


def test_a_checkpoint_is_not_changed_by_later_steps():
    learner = begin()
    learner.private_step(PROMPTS[:4])
    checkpoint = learner.checkpoint()
    before = saved(checkpoint)
    learner.private_step(PROMPTS[4:8])
    after = begin()
    after.resume(checkpoint)
    again = begin()
    again.resume(before)
    assert same(after.weights(), again.weights())


@pytest.mark.parametrize(
    ("other", "complaint"),
    [({"seed": 1}, "seed"), ({"temperature": 0.5}, "settings")],
)
def test_a_checkpoint_of_another_run_is_refused(other, complaint):
    with pytest.raises(ValueError, match=complaint):
        begin(**other).resume(begin().checkpoint())


def test_a_checkpoint_of_another_model_is_refused():
    checkpoint = begin().checkpoint()
    checkpoint["adapters"] = [one[:1] for one in checkpoint["adapters"]]
    with pytest.raises(ValueError, match="another model"):
        begin().resume(checkpoint)


@pytest.mark.parametrize(("round_", "part"), [(1, "lora_B"), (2, "lora_A")])
@pytest.mark.parametrize("kl_beta", [0.0, 0.1])
def test_in_turns_one_part_alone_learns(round_, part, kl_beta):
    learner = begin(ScriptedSampler("3", "9", "9", "9"), aggregation="alternating", kl_beta=kl_beta)
    before = learner.weights()
    learner.start_round(before, round_)
    learner.private_step(PROMPTS[:2])
    learner.private_step(PROMPTS[2:4])
    assert moved(before, learner.weights()) == {name for name in before if part in name}


def test_microbatches_add_up_to_the_whole_batch():
    whole, parts = (
        begin(ScriptedSampler("3", "99", "9", "13"), microbatch_tokens=most) for most in (1000, 7)
    )
    for learner in (whole, parts):
        learner.optimiser = torch.optim.SGD(learner.adapters, lr=0.1)
        learner.private_step(PROMPTS[:4])
    for name, one in whole.weights().items():
        np.testing.assert_allclose(parts.weights()[name], one, atol=1e-5)


def test_the_proximal_term_pulls_to_the_rounds_start():
    settings: dict[str, Any] = {"epochs": 20, "learning_rate": 0.05, "max_gradient_norm": 1e9}
    sampler = ScriptedSampler("3", "9", "9", "9")
    distances = []
    for mu in (0.0, 10.0):
        learner = begin(sampler, proximal_mu=mu, **settings)
        before = learner.weights()
        learner.private_step(PROMPTS[:4])
        after = learner.weights()
        distances.append(sum(np.square(after[name] - before[name]).sum() for name in before))
    assert distances[1] < 0.5 * distances[0]
