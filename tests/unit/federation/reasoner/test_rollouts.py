from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from federation.reasoner.lora import attach_lora
from federation.reasoner.rollouts import LocalSampler
from federation.reasoner.settings import ReasonerSettings
from tests.fakes.digits import END, N_TOKENS, DigitTokenizer, digit_prompt
from tests.fakes.language_models import tiny_model

# peft asks a transformers model by a name that transformers 5 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

SETTINGS = ReasonerSettings(lora_rank=2, lora_alpha=4, temperature=1.3, max_new_tokens=3)
PROMPTS = [digit_prompt(text) for text in ("1 2", "1 2 3 4", "1 4", "1")]


@pytest.fixture(scope="module")
def sampler() -> LocalSampler:
    model = attach_lora(tiny_model(n_tokens=N_TOKENS), SETTINGS, seed=0)
    return LocalSampler(model, DigitTokenizer(), SETTINGS)


def log_probabilities(sampler: LocalSampler, read: tuple[int, ...]) -> torch.Tensor:
    """Return those of the next token, read in a row of its own without a cache."""
    with torch.no_grad():
        logits: torch.Tensor = sampler.model(input_ids=torch.tensor([read])).logits[0, -1]
    return (logits / SETTINGS.temperature).log_softmax(dim=0)


def test_each_token_carries_the_log_probability_it_was_drawn_with(sampler):
    for prompt, responses in zip(PROMPTS, sampler.sample(PROMPTS, 6, seed=0), strict=True):
        read = tuple(
            sampler.tokenizer.apply_chat_template(
                [{"content": prompt.messages[0].content}],
                add_generation_prompt=True,
                return_dict=False,
            )
        )
        for one in responses:
            alone = [
                float(log_probabilities(sampler, read + one.tokens[:place])[token])
                for place, token in enumerate(one.tokens)
            ]
            assert one.log_probabilities == pytest.approx(alone, abs=1e-4)


def test_answers_are_drawn_as_often_as_they_are_probable(sampler):
    (responses,) = sampler.sample(PROMPTS[:1], 4000, seed=1)
    drawn = Counter(one.tokens[:2] for one in responses)
    for first, second in product(range(N_TOKENS - 1), range(N_TOKENS)):
        read = (1, 10, 2)
        chance = float(
            log_probabilities(sampler, read)[first]
            + log_probabilities(sampler, (*read, first))[second]
        )
        expected = 4000 * np.exp(chance)
        assert abs(drawn[first, second] - expected) < 5 * np.sqrt(expected) + 2


def test_the_same_seed_draws_the_same_answers(sampler):
    assert sampler.sample(PROMPTS, 4, seed=3) == sampler.sample(PROMPTS, 4, seed=3)
    assert sampler.sample(PROMPTS, 4, seed=3) != sampler.sample(PROMPTS, 4, seed=4)


def test_an_answer_ends_with_its_end_or_where_it_is_cut_off(sampler):
    responses = [one for group in sampler.sample(PROMPTS, 50, seed=0) for one in group]
    assert {one.is_complete for one in responses} == {True, False}
    for one in responses:
        assert one.is_complete == (one.tokens[-1] == END)
        assert END not in one.tokens[:-1]
        assert len(one.tokens) == 3 or one.is_complete
        assert one.text == sampler.tokenizer.decode(one.tokens, skip_special_tokens=True)


def test_a_single_prompt_of_one_token_is_answered(sampler):
    (responses,) = sampler.sample(PROMPTS[-1:], 2, seed=0)
    assert len(responses) == 2


def test_refuses_texts_longer_than_a_sliding_window():
    model = attach_lora(tiny_model(n_tokens=N_TOKENS), SETTINGS, seed=0)
    model.config.sliding_window = 4
    sampler = LocalSampler(model, DigitTokenizer(), SETTINGS)
    with pytest.raises(ValueError, match="see 4 tokens back"):
        sampler.sample(PROMPTS[:2], 4, seed=0)


def test_mixed_precision_changes_nothing_without_a_gpu(sampler):
    mixed = replace(sampler, settings=replace(SETTINGS, mixed_precision=True))
    assert mixed.sample(PROMPTS, 4, seed=0) == sampler.sample(PROMPTS, 4, seed=0)
