"""Group relative policy optimisation of a language model, token by token.

GRPO (arXiv 2402.03300) with the mean over all tokens of a batch (DAPO, arXiv 2503.14476) and other
clients' answers among the own ones (PubSwap, arXiv 2604.12160).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from peft import PeftModel
from torch import Tensor

from budget.training.grpo import clipped_terms, group_advantages, has_reward_variance
from federation.reasoner.lora import autocast_context, require_context_length
from federation.reasoner.packing import PromptResponse, Tree
from federation.reasoner.settings import ReasonerSettings

TRUNCATION: Final = 2.0
"""No importance weight of another client's token is larger (truncated IS, arXiv 1802.01561)."""

LUFFY_GAMMA: Final = 0.1
"""Of the shaping f(p) = p / (p + 0.1); arXiv 2504.14945, section 3.3."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer to learn from.

    Attributes:
        sequel: Prompt and answer.
        advantage: Against its group.
        behaviour: Log-probability of each token where it was drawn, for another client's answer;
            None for the own ones.
    """

    pair: PromptResponse
    advantage: float
    behaviour: tuple[float, ...] | None = None


def advantages_of(rewards: Sequence[Sequence[float]], eps: float) -> list[list[float] | None]:
    """Score every answer against its group; None for a group in which all are alike.

    Args:
        rewards: Of each group's answers; groups have one size.
        eps: See `group_advantages`.
    """
    table = torch.tensor(rewards, dtype=torch.float64)
    scored = group_advantages(table, eps).tolist()
    return [
        one if telling else None
        for one, telling in zip(scored, has_reward_variance(table).tolist(), strict=True)
    ]


def tree_log_probabilities(model: PeftModel, tree: Tree, settings: ReasonerSettings) -> Tensor:
    """Return the log-probability of every response token of a tree, as in `Tree.targets`."""
    require_context_length(model, int(tree.positions.max()) + 1)
    device = model.device
    mask = tree.mask.to(device)
    if model.config._attn_implementation == "eager":  # noqa: SLF001 - there is no public name
        # It adds the mask, as numbers; the others take truth values.
        lowest = torch.finfo(model.dtype).min
        mask = torch.zeros(mask.shape, dtype=model.dtype, device=device).masked_fill(~mask, lowest)
    with autocast_context(model, settings):
        logits = model(
            input_ids=tree.tokens[None].to(device),
            position_ids=tree.positions[None].to(device),
            attention_mask=mask[None, None],
            use_cache=False,
            logits_to_keep=tree.read.to(device),
        ).logits[0]
    logits = logits.float() / settings.temperature
    picked, targets = tree.picked.to(device), tree.targets.to(device)
    log_probabilities: Tensor = logits.log_softmax(dim=1)[picked, targets]
    return log_probabilities


def token_losses(
    log_probabilities: Tensor,
    old: Tensor,
    behaviour: Tensor,
    advantages: Tensor,
    settings: ReasonerSettings,
) -> Tensor:
    """Return what each token adds to the loss; all have shape ``(n,)``.

    Args:
        log_probabilities: Now.
        old: Before the batch's first step, whoever drew the token.
        behaviour: Where another client drew the token; NaN for own tokens.
        advantages: Of the answer the token is part of.
        settings: Clip and correction.
    """
    terms = clipped_terms(log_probabilities, old, advantages, settings.clip_low, settings.clip_high)
    if settings.foreign_ratio == "local":
        return -terms
    is_foreign = behaviour.isfinite()
    if settings.foreign_ratio == "truncated":
        weights = (old - behaviour.nan_to_num()).exp().clamp(max=TRUNCATION)
        return -torch.where(is_foreign, weights * terms, terms)
    chances = log_probabilities.exp()
    return -torch.where(is_foreign, chances / (chances + LUFFY_GAMMA) * advantages, terms)


def divergence(log_probabilities: Tensor, reference: Tensor) -> Tensor:
    """Estimate each token's divergence from the base model without bias, never negative.

    The estimator k3 of http://joschu.net/blog/kl-approx.html, as in GRPO's equation 4.
    """
    difference = reference - log_probabilities
    return difference.exp() - difference - 1.0
