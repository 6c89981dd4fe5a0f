import pytest
from pydantic import ValidationError

from budget.policies.types import TurnState
from gateway.settings.turn_budgets import TurnBudgetSettings

STATE = TurnState(budget_tokens=6000, remaining_tokens=6000)


@pytest.mark.parametrize("choices", [(), (512, 256), (256, 256), (0, 256)])
def test_choices_that_do_not_ascend_from_1_stop_the_start(choices) -> None:
    with pytest.raises(ValidationError, match="choices"):
        TurnBudgetSettings(choices=choices)


@pytest.mark.parametrize(("policy", "tokens"), [("split", 1000), ("decay", 1700)])
def test_decay_gives_the_first_turns_more_than_an_even_split(policy, tokens) -> None:
    choices = tuple(range(100, 6000, 100))
    built = TurnBudgetSettings(policy=policy, choices=choices).make_policy()
    assert choices[int(built.probabilities(STATE).argmax())] == tokens
