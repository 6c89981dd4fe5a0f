"""A causal language model as the budgeter: it reads the conversation and names a budget.

The paper's budgeter, arXiv 2604.05164, writes its budget as text. Here each choice has a letter,
and the budget is read from the model's odds of the next token: one forward pass, no decoding, and
the probabilities of all choices are exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Any, ClassVar, Final, Protocol, Self

import torch
from torch import Tensor, nn

from budget.policies.types import TurnState
from router_models.types import Float32

QUESTION_CHARS: Final = 100
"""How much of a question is read: its beginning tells what kind of task it is."""


class Tokenizer(Protocol):
    """What is used of a tokenizer of the transformers library."""

    def __call__(self, text: list[str], *, add_special_tokens: bool) -> Mapping[str, Any]:
        """Return the tokens of each text as ``input_ids``."""
        ...


def render(state: TurnState) -> str:
    """Put into words what TAB sees of a state, the plan left out.

    It is short, and shares are rounded to tenths so that conversations which hardly differ have
    the same prompt: a forward pass costs what its tokens cost.
    """
    question = " ".join(state.text[: 2 * QUESTION_CHARS].split())[:QUESTION_CHARS]
    left = max(round(10.0 * state.remaining_tokens / max(state.budget_tokens, 1)), 0)
    ending = "cut off" if state.was_cut_off else "complete"
    return (
        f"{question}\n{state.prompt_chars} characters, turn {state.turn_index + 1}, "
        f"{left}/10 of {state.budget_tokens} tokens left, last answer {ending}. Budget:"
    )


@dataclass(frozen=True, slots=True, eq=False)
class LlmPolicy:
    """Proposes the choice whose letter a language model would write next.

    Attributes:
        choices: What can be proposed.
        model: A causal language model, with or without adapters.
        tokenizer: Its tokenizer.
        labels: Token of each choice's letter; shape ``(n_choices,)``, on the model's device.
        habit: Subtracted from the letters' logits; same shape.
    """

    kind: ClassVar[str] = "llm"

    choices: tuple[int, ...]
    model: nn.Module
    tokenizer: Tokenizer
    labels: Tensor
    habit: Tensor

    @classmethod
    def begin(cls, choices: tuple[int, ...], model: nn.Module, tokenizer: Tokenizer) -> Self:
        """Give every choice a letter.

        Raises:
            ValueError: There are more choices than letters, or a letter is not one token.
        """
        if len(choices) > len(ascii_uppercase):
            raise ValueError(
                f"{len(choices)} choices, but there are {len(ascii_uppercase)} letters"
            )
        letters = [f" {letter}" for letter in ascii_uppercase[: len(choices)]]
        tokens = tokenizer(letters, add_special_tokens=False)["input_ids"]
        if any(len(one) != 1 for one in tokens) or len({one[0] for one in tokens}) < len(choices):
            raise ValueError("this tokenizer has no token of its own for each choice's letter")
        device = next(model.parameters()).device
        labels = torch.tensor(tokens, device=device).flatten()
        return cls(choices, model, tokenizer, labels, torch.zeros(len(labels), device=device))

    def without_habit(self, prompts: Sequence[str]) -> Self:
        """Return this policy so that on average over `prompts` it prefers no choice.

        A model likes some letters better than others whatever it reads (arXiv 2102.09690);
        training would first have to unlearn that.
        """
        with torch.no_grad():
            mean = self.log_odds(prompts).mean(dim=0)
        return replace(self, habit=self.habit + mean)

    def probabilities(self, state: TurnState) -> Float32:
        """Return how likely each choice is."""
        with torch.inference_mode():
            odds: Float32 = self.log_odds([render(state)])[0].exp().float().cpu().numpy()
        return odds

    def log_odds(self, prompts: Sequence[str]) -> Tensor:
        """Return log probabilities of the choices, with gradients; shape ``(n, n_choices)``."""
        tokens = self.tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
        ids, mask = _pad_left(tokens, self.labels.device)
        logits = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
            logits_to_keep=1,
            use_cache=False,
        ).logits[:, -1]
        odds: Tensor = (logits[:, self.labels] - self.habit).log_softmax(dim=1)
        return odds

    def learned(self) -> dict[str, Tensor]:
        """Return what the base model does not have: trainable weights by name, and the habit."""
        return {**self._trainable(), "habit": self.habit}

    def load(self, learned: Mapping[str, Tensor]) -> None:
        """Take over what `learned` returned of a policy with the same base model and adapters.

        Raises:
            ValueError: The names or shapes are another model's; nothing was changed.
        """
        own = self.learned()
        if {name: one.shape for name, one in own.items()} != {
            name: one.shape for name, one in learned.items()
        }:
            raise ValueError("these weights belong to another model or to other adapters")
        with torch.no_grad():
            for name, weights in own.items():
                weights.copy_(learned[name])

    def _trainable(self) -> dict[str, Tensor]:
        return {
            name: weights.detach()
            for name, weights in self.model.named_parameters()
            if weights.requires_grad
        }


def _pad_left(tokens: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Align prompts at their end, where the next token is read; ids and mask."""
    longest = max(len(one) for one in tokens)
    ids = [[0] * (longest - len(one)) + list(one) for one in tokens]
    mask = [[0] * (longest - len(one)) + [1] * len(one) for one in tokens]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
