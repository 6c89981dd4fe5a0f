"""Figures of one step of tuning: the only ones that leave a client."""

from typing import NamedTuple


class StepFigures(NamedTuple):
    """What one step did.

    Attributes:
        reward: Mean of the own answers.
        prompts: Prompts of the step.
        prompts_used: Prompts whose answers differed in reward after the swap: those that taught.
        tokens_generated: Of the own answers.
        answers_swapped: Other clients' answers learned from.
        tokens_swapped: Their tokens.
        loss: Before the step; 0 where no prompt taught.
    """

    reward: float
    prompts: int
    prompts_used: int
    tokens_generated: int
    answers_swapped: int
    tokens_swapped: int
    loss: float
