"""The settings of turn budgets."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from budget.policies.mdp import CHOICES
from budget.policies.policy import BudgetPolicy, SplitPolicy


class TurnBudgetSettings(BaseModel):
    """How the completion tokens of a conversation are shared out between its turns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens_per_conversation: Annotated[
        int | None, Field(gt=0, description="Without it, only callers and profiles set budgets.")
    ] = None
    policy: Annotated[
        Literal["split", "decay"],
        Field(
            description="Proposes where no policy artefact is active; decay favours early turns."
        ),
    ] = "split"
    choices: Annotated[
        tuple[int, ...], Field(min_length=1, description="What it may propose, ascending.")
    ] = CHOICES
    expected_turns: Annotated[
        int, Field(gt=0, description="Of a conversation whose caller gives no plan.")
    ] = 6
    exploration: Annotated[
        float | None,
        Field(ge=0, le=1, description="Draw proposals, this share of them evenly; not by default."),
    ] = None
    tells_model: Annotated[
        bool, Field(description='Put "Think for at most N tokens." into the system prompt.')
    ] = False

    @model_validator(mode="after")
    def _choices_ascend(self) -> Self:
        if self.choices[0] < 1 or list(self.choices) != sorted(set(self.choices)):
            raise ValueError("choices must be ascending and above 0")
        return self

    def make_policy(self) -> BudgetPolicy:
        """Make the policy that needs no artefact."""
        power = {"split": 0.0, "decay": 1.0}[self.policy]
        return SplitPolicy(self.choices, self.expected_turns, power)
