"""Trains the language-model budgeter by GRPO: LoRA adapters on a frozen model."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.turn_budgets_llm.llm_policy import LlmPolicy, render
from budget.environments.conversation import Conversation, Environment
from budget.training.grpo import clipped_loss
from budget.training.train import (
    MAX_GRADIENT_NORM,
    TrainingRun,
    TrainingSettings,
    draw_choices,
    start_groups,
)

PROMPTS_AT_ONCE: Final = 16
"""Bounds memory: as many prompts are in one forward pass."""

ADAPTED: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""All linear layers of a Llama block."""


def adapt(model: PreTrainedModel, *, rank: int, last_layers: int, seed: int) -> PeftModel:
    """Freeze a model and add LoRA adapters, arXiv 2106.09685, that change nothing yet.

    Args:
        model: Of the Llama family.
        rank: Of the adapters; the paper of TAB has 64.
        last_layers: How many layers get one, from the end. Gradients stop below them, so few
            layers cost little more than the forward pass.
        seed: Of the adapters' first weights.
    """
    n_layers = model.config.num_hidden_layers
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=list(ADAPTED),
        layers_to_transform=list(range(max(n_layers - last_layers, 0), n_layers)),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)


class _Turns(NamedTuple):
    """Every turn of a step's rollouts, one row each; all of shape ``(n,)``.

    Attributes:
        rollout: Which conversation it belongs to.
        prompt: Which of the step's distinct prompts it saw.
        choice: What was drawn.
        log_probability: Of that choice when it was drawn.
    """

    rollout: Tensor
    prompt: Tensor
    choice: Tensor
    log_probability: Tensor


@dataclass(slots=True, eq=False)
class LlmTrainer(TrainingRun[_Turns, list[str]]):
    """Trains the adapters of a language model; widths of TAB's network are not read.

    Rollouts of one group mostly stand at the same prompt, and each distinct prompt of a step is
    read once: the model's cost hardly grows with the size of a group.

    Attributes:
        policy: What learns: the trainable weights of its model.
    """

    policy: LlmPolicy = field(kw_only=True)

    @classmethod
    def begin(cls, environment: Environment, settings: TrainingSettings, policy: LlmPolicy) -> Self:
        """Start a run with fresh adapters, from a policy that prefers no letter on average.

        Raises:
            ValueError: The policy does not choose from what the settings say.
        """
        if policy.choices != settings.choices:
            raise ValueError(f"the policy chooses from {policy.choices}, not {settings.choices}")
        rng = np.random.default_rng(settings.seed)
        first = start_groups(environment, settings, rng)[:: settings.group_size]
        policy = policy.without_habit([render(one.state()) for one in first])
        trainable = [one for one in policy.model.parameters() if one.requires_grad]
        optimiser = torch.optim.AdamW(
            trainable, settings.learning_rate, weight_decay=settings.weight_decay
        )
        return cls(environment, settings, optimiser, rng, policy=policy)

    @property
    def kind(self) -> str:
        """Of the policy."""
        return self.policy.kind

    def run(self, show: Callable[[Iterable[int]], Iterable[int]] = iter) -> LlmPolicy:
        """Take the steps that are left, and return what came of them."""
        self.take_steps(show)
        return self.policy

    def learned(self) -> dict[str, Tensor]:
        """Return what the frozen model does not have."""
        return self.policy.learned()

    def load(self, learned: dict[str, Tensor]) -> None:
        """Take over what `learned` returned."""
        self.policy.load(learned)

    def play(self, conversations: Sequence[Conversation]) -> tuple[_Turns, list[str]]:
        """Answer every turn; what is seen is the distinct prompts."""
        row_of: dict[str, int] = {}
        known = torch.empty(0, len(self.settings.choices))
        played = []
        while active := [row for row, one in enumerate(conversations) if not one.is_over]:
            seen = [render(conversations[row].state()) for row in active]
            fresh = [prompt for prompt in dict.fromkeys(seen) if prompt not in row_of]
            row_of.update(zip(fresh, range(len(row_of), len(row_of) + len(fresh)), strict=True))
            known = torch.cat([known, self._read(fresh)])
            prompts = torch.tensor([row_of[prompt] for prompt in seen])
            log_odds = known[prompts]
            drawn = draw_choices(log_odds, self.rng)
            for row, choice in zip(active, drawn.tolist(), strict=True):
                conversations[row].answer(self.settings.choices[choice])
            taken = log_odds.gather(1, drawn[:, None])[:, 0]
            played.append(_Turns(torch.tensor(active), prompts, drawn, taken))
        return _Turns(*(torch.cat(one) for one in zip(*played, strict=True))), list(row_of)

    def _read(self, prompts: Sequence[str]) -> Tensor:
        read = torch.empty(len(prompts), len(self.settings.choices))
        with torch.no_grad():
            for rows in _batches(prompts, range(len(prompts))):
                read[rows] = self.policy.log_odds([prompts[row] for row in rows]).cpu()
        return read

    def learn(self, turns: _Turns, seen: list[str], advantages: Tensor, bonus: float) -> None:
        """Take one optimiser step on `turns`."""
        self.optimiser.zero_grad()
        for rows in _batches(seen, set(turns.prompt.tolist())):
            read = self.policy.log_odds([seen[row] for row in rows]).cpu()
            held = torch.isin(turns.prompt, torch.tensor(rows))
            at = torch.tensor([rows.index(prompt) for prompt in turns.prompt[held].tolist()])
            log_odds = read[at]
            taken = log_odds.gather(1, turns.choice[held][:, None])[:, 0]
            surrogate = clipped_loss(
                taken, turns.log_probability[held], advantages[held], self.settings.clip
            )
            entropy = -(log_odds.exp() * log_odds).sum(dim=1).mean()
            # Batches add up to the mean over all turns, which one backward pass would take.
            torch.autograd.backward((surrogate - bonus * entropy) * held.float().mean())
        trainable = self.optimiser.param_groups[0]["params"]
        torch.nn.utils.clip_grad_norm_(trainable, MAX_GRADIENT_NORM)
        self.optimiser.step()


def _batches(prompts: Sequence[str], rows: Iterable[int]) -> Iterator[list[int]]:
    """Group rows of prompts of like length, so that little is padded."""
    ordered = sorted(rows, key=lambda row: (len(prompts[row]), row))
    for first in range(0, len(ordered), PROMPTS_AT_ONCE):
        yield ordered[first : first + PROMPTS_AT_ONCE]
