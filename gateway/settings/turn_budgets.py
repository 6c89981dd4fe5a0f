"""The settings of turn budgets."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from budget.policies.mdp import CHOICES
from budget.policies.policy import BudgetPolicy, SplitPolicy
from gateway.settings.base import Settings


class TurnBudgetSettings(Settings):
    """How the completion tokens of a conversation are divided among its turns."""

    tokens_per_conversation: Annotated[
        int | None,
        Field(
            gt=0,
            description="Completion tokens of a conversation. A caller may ask for fewer, not for "
            "more; a profile may set another number. By default only callers and profiles set "
            "turn budgets.",
        ),
    ] = None
    policy: Annotated[
        Literal["split", "decay"],
        Field(
            description="Policy that divides the tokens while no trained policy is active. `split` "
            "gives every turn the same share of what is left, `decay` gives early turns more."
        ),
    ] = "split"
    choices: Annotated[
        tuple[int, ...],
        Field(
            min_length=1,
            description="Numbers of tokens that `policy` can give a turn, in ascending order. "
            "A trained policy brings its own.",
        ),
    ] = CHOICES
    expected_turns: Annotated[
        int,
        Field(
            gt=0,
            description="Number of turns that `policy` plans for where the caller sends no plan. "
            "A larger number gives each turn less.",
        ),
    ] = 6
    exploration: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="Draw the tokens of a turn at random: in this share of turns all choices "
            "are equally likely, in the others as the policy says. Needed to compare policies "
            "from the log. By default the likeliest choice is always taken.",
        ),
    ] = None
    tells_model: Annotated[
        bool,
        Field(
            description='Put "Think for at most N tokens." before the system prompt. As the number '
            "changes from turn to turn, providers' prompt caches help less."
        ),
    ] = False

    @model_validator(mode="after")
    def _choices_ascend(self) -> Self:
        if self.choices[0] < 1 or list(self.choices) != sorted(set(self.choices)):
            raise ValueError(f"choices must be ascending and above 0, not {list(self.choices)}")
        return self

    def make_policy(self) -> BudgetPolicy:
        """Make the policy that needs no artefact."""
        power = {"split": 0.0, "decay": 1.0}[self.policy]
        return SplitPolicy(self.choices, self.expected_turns, power)
