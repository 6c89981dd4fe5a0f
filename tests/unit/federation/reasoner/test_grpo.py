from dataclasses import replace
from math import exp, log, sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from federation.reasoner.grpo import advantages_of, divergence, token_losses, tree_log_probabilities
from federation.reasoner.lora import attach_lora
from federation.reasoner.packing import PromptResponse, pack
from federation.reasoner.settings import ReasonerSettings
from tests.fakes.language_models import tiny_model

# peft asks a transformers model by a name that transformers 5 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

SETTINGS = ReasonerSettings(lora_rank=2, lora_alpha=4, temperature=0.7, clip_high=0.28)
NAN = float("nan")


def losses(now: float, old: float, advantage: float, behaviour: float = NAN, **changes) -> float:
    """Compute one token's loss from probabilities."""
    first, second, third = (torch.tensor([value]).log() for value in (now, old, behaviour))
    settings = replace(SETTINGS, **changes)
    return float(token_losses(first, second, third, torch.tensor([advantage]), settings))


@pytest.mark.parametrize(
    ("now", "old", "advantage", "loss"),
    [
        (0.5, 0.5, 2.0, -2.0),
        (0.55, 0.5, 2.0, -2.2),
        (0.75, 0.5, 2.0, -2.56),  # the ratio 1.5 counts as 1.28
        (0.25, 0.5, 2.0, -1.0),  # good and too rare: not clipped
        (0.25, 0.5, -2.0, 1.6),  # the ratio 0.5 counts as 0.8
        (0.75, 0.5, -2.0, 3.0),  # bad and too frequent: not clipped
    ],
)
def test_a_token_adds_its_clipped_ratio_times_its_advantage(now, old, advantage, loss):
    assert losses(now, old, advantage) == pytest.approx(loss, rel=1e-5)


def test_the_paper_takes_the_local_old_policy_for_tokens_of_others():
    assert losses(0.55, 0.5, 2.0, behaviour=0.9) == losses(0.55, 0.5, 2.0)


@pytest.mark.parametrize(
    ("behaviour", "weight"), [(0.8, 0.625), (0.5, 1.0), (0.3, 0.5 / 0.3), (0.01, 2.0)]
)
def test_a_truncated_weight_corrects_for_who_drew_the_token(behaviour, weight):
    loss = losses(0.55, 0.5, 2.0, behaviour, foreign_ratio="truncated")
    assert loss == pytest.approx(weight * -2.2, rel=1e-5)


def test_luffy_shapes_the_chance_of_tokens_of_others():
    loss = losses(0.3, 0.5, 2.0, behaviour=0.9, foreign_ratio="luffy")
    assert loss == pytest.approx(-2.0 * 0.3 / 0.4, rel=1e-5)


@pytest.mark.parametrize("foreign_ratio", ["truncated", "luffy"])
def test_corrections_leave_own_tokens_alone(foreign_ratio):
    assert losses(0.55, 0.5, 2.0, foreign_ratio=foreign_ratio) == losses(0.55, 0.5, 2.0)


@pytest.mark.parametrize("foreign_ratio", ["local", "truncated", "luffy"])
def test_own_tokens_have_finite_gradients(foreign_ratio):
    now = torch.tensor([-0.5, -0.7], requires_grad=True)
    behaviour = torch.tensor([NAN, -0.1])
    settings = replace(SETTINGS, foreign_ratio=foreign_ratio)
    token_losses(now, now.detach(), behaviour, torch.ones(2), settings).sum().backward()
    assert now.grad is not None
    assert now.grad.isfinite().all()


def test_advantages_compare_with_the_group_alone():
    scored = advantages_of([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]], eps=1e-6)
    assert scored[0] == pytest.approx([sqrt(3), *[-1 / sqrt(3)] * 3], rel=1e-4)
    assert scored[1] == pytest.approx([1, 1, -1, -1], rel=1e-4)


def test_a_group_of_equal_rewards_is_skipped():
    assert advantages_of([[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]], eps=1e-6)[:2] == [None, None]


def test_the_divergence_is_that_of_schulmans_estimator():
    now, base = torch.tensor([log(0.5), log(0.5)]), torch.tensor([log(0.5), log(0.25)])
    assert divergence(now, base).tolist() == pytest.approx([0.0, 0.5 + log(2) - 1], abs=1e-6)


@given(st.floats(-5, 0), st.floats(-5, 0))
def test_the_divergence_is_never_negative(now, base):
    value = float(divergence(torch.tensor(now), torch.tensor(base)))
    assert value == pytest.approx(exp(base - now) - (base - now) - 1, abs=1e-3, rel=1e-4)
    assert value >= -1e-6


@pytest.mark.parametrize("most_tokens", [1, 12, 1000])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_answers_have_the_log_probabilities_of_unpacked_rows(most_tokens, attention):
    model = attach_lora(tiny_model(), SETTINGS, seed=0)
    model.set_attn_implementation(attention)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(1))
    answers = [(5, 6, 2), (5, 7, 2), (5, 6, 2), (8, 2), (2,)]
    pairs = [PromptResponse(prompt, answer) for prompt in ((3, 4), (3, 9, 9)) for answer in answers]
    for tree in pack(pairs, most_tokens):
        expected = torch.cat([_unpacked(model, pairs[at]) for at in tree.members])
        found = tree_log_probabilities(model, tree, SETTINGS)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_refuses_texts_longer_than_a_sliding_window():
    model = attach_lora(tiny_model(), SETTINGS, seed=0)
    model.config.sliding_window = 3
    (fitting,), (long,) = (pack([PromptResponse((3, 4), (5,) * n)], 100) for n in (2, 3))
    tree_log_probabilities(model, fitting, SETTINGS)
    with pytest.raises(ValueError, match="see 3 tokens back, fewer than the 4"):
        tree_log_probabilities(model, long, SETTINGS)


def _unpacked(model, pair: PromptResponse) -> torch.Tensor:
    row = torch.tensor([pair.prompt + pair.response])
    scores = (model(input_ids=row).logits[0] / SETTINGS.temperature).log_softmax(dim=1)
    places = range(len(pair.prompt) - 1, row.shape[1] - 1)
    return torch.stack([scores[at, row[0, at + 1]] for at in places])
