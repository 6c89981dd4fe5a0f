"""One local step against TRL's GRPO loss on the same batch."""

from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]

from federation.reasoner.lora import attach_lora
from federation.reasoner.settings import ReasonerSettings
from federation.reasoner.trainer import Learner
from tests.fakes.digits import END, N_TOKENS, DigitTokenizer, digit_prompt, library_tokenizer
from tests.fakes.digits import response as answer
from tests.fakes.language_models import tiny_model

pytestmark = [
    # Importing TRL takes 8 s: one worker does it.
    pytest.mark.xdist_group("trl"),
    # TRL's own use of transformers is not ours to mend.
    pytest.mark.filterwarnings("ignore"),
]

SETTINGS = ReasonerSettings(
    lora_rank=2,
    lora_alpha=4,
    group_size=3,
    temperature=0.8,
    clip_high=0.28,
    kl_beta=0.05,
    advantage_eps=1e-9,
    epochs=2,
    microbatch_tokens=12,
    max_gradient_norm=1e9,
)
PROMPTS = [digit_prompt("1 2", ends_with="3"), digit_prompt("4 5 6", ends_with="7")]
TEXTS = [["3", "443", "4"], ["6", "57", "7777"]]
ADVANTAGES = [2**-0.5, 2**-0.5, -(2**0.5), -(2**0.5), 2**-0.5, 2**-0.5]


class ScriptedSampler:
    def sample(self, prompts, k, seed):
        return [[answer(text) for text in texts] for texts in TEXTS]


def adapted() -> PeftModel:
    model = attach_lora(tiny_model(n_tokens=N_TOKENS), SETTINGS, seed=0)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(1))
    return model


def padded(rows: list[list[int]], *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, rows))
    gaps = [[0] * (longest - len(row)) for row in rows]
    ids = [gap + row if left else row + gap for gap, row in zip(gaps, rows, strict=True)]
    ones = [[1] * len(row) for row in rows]
    mask = [gap + one if left else one + gap for gap, one in zip(gaps, ones, strict=True)]
    return torch.tensor(ids), torch.tensor(mask)


def trl_inputs(trainer: GRPOTrainer, model: PeftModel) -> dict[str, torch.Tensor]:
    """Lay the batch out as TRL does, with what the model says before the first step."""
    tokenizer = DigitTokenizer()
    read = [
        tokenizer.apply_chat_template(
            [{"content": one.messages[0].content}], add_generation_prompt=True, return_dict=False
        )
        for one in PROMPTS
        for _ in range(3)
    ]
    answers = [[*map(int, text), END] for texts in TEXTS for text in texts]
    prompt_ids, prompt_mask = padded(read, left=True)
    completion_ids, completion_mask = padded(answers, left=False)
    inputs = {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "advantages": torch.tensor(ADVANTAGES),
        "num_items_in_batch": completion_mask.sum(),
    }
    ids = torch.cat([prompt_ids, completion_ids], dim=1)
    mask = torch.cat([prompt_mask, completion_mask], dim=1)
    with torch.no_grad():
        score = trainer._get_per_token_logps_and_entropies
        inputs["old_per_token_logps"] = score(model, ids, mask, completion_ids.shape[1])[0]
        with model.disable_adapter():
            inputs["ref_per_token_logps"] = score(model, ids, mask, completion_ids.shape[1])[0]
    return inputs


@pytest.fixture
def trainer(tmp_path) -> GRPOTrainer:
    arguments = GRPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        report_to=[],
        per_device_train_batch_size=6,
        num_generations=3,
        loss_type="dapo",
        temperature=SETTINGS.temperature,
        epsilon=SETTINGS.clip_low,
        epsilon_high=SETTINGS.clip_high,
        beta=SETTINGS.kl_beta,
        use_bias_correction_kl=False,
    )

    def reward(completions: list[Any], **_: Any) -> list[float | None]:
        return [0.0] * len(completions)

    return GRPOTrainer(
        adapted(),
        reward_funcs=reward,
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "1 2"}]),
        processing_class=library_tokenizer(),
    )


def test_steps_on_one_batch_are_those_of_trl(trainer):
    """The second epoch starts off policy: ratios differ from 1, and some are clipped."""
    model = trainer.model.eval()
    inputs = trl_inputs(trainer, model)
    adapters = [one for one in model.parameters() if one.requires_grad]
    optimiser = torch.optim.SGD(adapters, lr=0.02)
    losses = []
    for _ in range(SETTINGS.epochs):
        optimiser.zero_grad()
        loss = trainer._compute_loss(model, inputs)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))

    own = adapted()
    learner = Learner.begin(own, DigitTokenizer(), ScriptedSampler(), SETTINGS, seed=0)
    learner.optimiser = torch.optim.SGD(learner.adapters, lr=0.02)
    figures = learner.private_step(PROMPTS)

    assert figures.loss == pytest.approx(losses[0], abs=1e-5)
    assert losses[1] < losses[0]
    for ours, theirs in zip(learner.adapters, adapters, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
