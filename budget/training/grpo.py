"""Group relative policy optimisation: advantages within a group, and the clipped loss."""

import torch
from torch import Tensor


def group_advantages(rewards: Tensor, eps: float = 1e-4) -> Tensor:
    """Score each rollout against the others of its group.

    GRPO, arXiv 2402.03300, section 4.1.2.

    Args:
        rewards: One reward per rollout; shape ``(n_groups, group_size)``.
        eps: Keeps a group of equal rewards at zero instead of NaN. A large one divides by less of
            the spread, so that groups which differ by little count for little.

    Returns:
        Advantages of the same shape; each row has mean 0.

    Raises:
        ValueError: The group size is 1, so there is nothing to compare with.
    """
    if rewards.shape[1] < 2:
        raise ValueError("a group needs at least two rollouts to compare")
    deviation = rewards.std(dim=1, keepdim=True, correction=0)
    return (rewards - rewards.mean(dim=1, keepdim=True)) / (deviation + eps)


def has_reward_variance(rewards: Tensor) -> Tensor:
    """Whether the rewards of a group differ, so that it has a gradient; shape ``(n_groups,)``.

    Rollouts of equal reward say nothing about which choice was better.
    """
    return rewards.amax(dim=1) > rewards.amin(dim=1)


def clipped_terms(
    log_probability: Tensor,
    old_log_probability: Tensor,
    advantages: Tensor,
    clip_low: float,
    clip_high: float,
) -> Tensor:
    """Return the clipped surrogate of each choice made, to be maximised; all have one shape.

    arXiv 1707.06347, equation 7, with a group's advantages.
    """
    ratio = (log_probability - old_log_probability).exp()
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return torch.minimum(ratio * advantages, clipped * advantages)


def clipped_loss(
    log_probability: Tensor, old_log_probability: Tensor, advantages: Tensor, clip: float = 0.2
) -> Tensor:
    """Return the mean of `clipped_terms`, to be minimised; all arguments have shape ``(n,)``."""
    return -clipped_terms(log_probability, old_log_probability, advantages, clip, clip).mean()
