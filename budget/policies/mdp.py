"""The decision process of a conversation's budget: state features, actions, reward, projection.

Jali, Nayak, Joshi, arXiv 2604.05164. Departure: a proposal is made feasible before it is enforced,
so what is really used never passes the budget; the paper only punishes passing it.
"""

from math import log1p, log2
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from budget.policies.policy import BudgetPolicy
from budget.policies.types import Allotment, TurnState
from router_models.types import Float32

CHOICES: Final = (256, 512, 1024, 2048, 4096)
"""What a turn may be allotted, in tokens; the paper's."""

OVERRUN_PENALTY: Final = 0.001
"""Reward lost per token beyond the budget; the paper's."""

FEATURES_VERSION: Final = 1
"""Of `features`; a policy trained on another version is refused."""

FEATURES: Final = (
    "remaining share of the budget",
    "used share of the budget",
    "log2 of the budget in thousands / 4",
    "log2 of what remains in thousands / 4",
    "turn / 8",
    "the turn before was cut off",
    "cut-off turns / 4, at most 1",
    "log of the message's characters / 12",
    "log of the history's characters / 12",
    "predicted quality, 0 if unknown",
    "quality is predicted",
    "log of 1 + predicted cost in 1e-4 USD / 8",
    "there is a plan",
    "sub-questions still to come / 8",
    "sub-questions in all / 8",
)
"""What each number of `features` is, in order."""


def features(state: TurnState, *, sees_plan: bool = True) -> Float32:
    """Turn the ledger's side of a state into numbers near [0, 1]; shape ``(len(FEATURES),)``.

    What is unknown is 0, so that it says nothing to a network that never saw it known.

    Args:
        state: The conversation.
        sees_plan: Whether the policy may know how many sub-questions are to come.
    """
    budget = max(state.budget_tokens, 1)
    n_planned = len(state.plan) if sees_plan and state.plan is not None else 0
    to_come = max(n_planned - state.plan_position - 1, 0)
    return np.array(
        (
            min(max(state.remaining_tokens / budget, 0.0), 1.0),
            min(state.used_tokens / budget, 1.0),
            log2(budget / 1000.0) / 4.0,
            log2((1 + max(state.remaining_tokens, 0)) / 1000.0) / 4.0,
            min(state.turn_index, 16) / 8.0,
            float(state.was_cut_off),
            min(state.cut_off_turns, 4) / 4.0,
            log1p(state.prompt_chars) / 12.0,
            log1p(state.history_chars) / 12.0,
            0.0 if state.quality is None else state.quality,
            float(state.quality is not None),
            0.0 if state.cost_usd is None else log1p(state.cost_usd * 1e4) / 8.0,
            float(n_planned > 0),
            min(to_come, 16) / 8.0,
            min(n_planned, 16) / 8.0,
        ),
        np.float32,
    )


def reward(
    is_correct: NDArray[Any],
    tokens: NDArray[Any],
    budget_tokens: NDArray[Any] | int,
    penalty: float = OVERRUN_PENALTY,
) -> Float32:
    """Score finished conversations: ``correct - penalty * max(0, tokens - B)``.

    The paper's terminal reward, arXiv 2604.05164.

    Args:
        is_correct: 1 where the final answer is right, else 0; any shape.
        tokens: Sum over the turns, same shape.
        budget_tokens: B, one for all or one each.
        penalty: Reward lost per token beyond B.
    """
    overrun = np.maximum(np.asarray(tokens) - budget_tokens, 0)
    return np.asarray(is_correct - penalty * overrun, np.float32)


def project(proposed_tokens: int, remaining_tokens: int, reserve_tokens: int = 0) -> int:
    """Make a proposal feasible: at most what remains beyond the reserve; 0 is nothing left."""
    return max(min(proposed_tokens, remaining_tokens - reserve_tokens), 0)


def raise_choice(choice: int, choices: tuple[int, ...], *, was_cut_off: bool) -> int:
    """Return the next larger choice after a turn that starved, else the same one."""
    return min(choice + 1, len(choices) - 1) if was_cut_off else choice


def allot(
    policy: BudgetPolicy,
    state: TurnState,
    rng: np.random.Generator,
    *,
    exploration: float | None = None,
    reserve_tokens: int = 0,
    raises_after_cut_off: bool = False,
    policy_version: str = "",
) -> Allotment:
    """Ask the policy for a proposal and make it feasible.

    Args:
        policy: Who proposes.
        state: The conversation.
        rng: Read only where something is drawn.
        exploration: None takes the likeliest choice. Otherwise the choice is drawn from the
            policy's distribution with this share of it spread evenly, in [0, 1].
        reserve_tokens: Kept back for later turns.
        raises_after_cut_off: A turn that was cut off raises the next proposal by one choice,
            whatever was drawn; the propensity stays that of the draw.
        policy_version: Recorded in the allotment.

    Raises:
        ValueError: `exploration` is outside [0, 1].
    """
    wanted = policy.probabilities(state)
    if exploration is None:
        choice = int(wanted.argmax())
        drawn_from = tuple(float(index == choice) for index in range(len(wanted)))
    else:
        if not 0.0 <= exploration <= 1.0:
            raise ValueError(f"exploration is {exploration}, expected 0 to 1")
        mixed = (1.0 - exploration) * wanted.astype(np.float64) + exploration / len(wanted)
        mixed /= mixed.sum()
        choice = min(int(np.searchsorted(mixed.cumsum(), rng.random(), "right")), len(mixed) - 1)
        drawn_from = tuple(mixed.tolist())
    was_cut_off = raises_after_cut_off and state.was_cut_off
    proposed = policy.choices[raise_choice(choice, policy.choices, was_cut_off=was_cut_off)]
    return Allotment(
        proposed,
        project(proposed, state.remaining_tokens, reserve_tokens),
        choice,
        drawn_from[choice],
        drawn_from,
        policy_version,
    )
