from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.budgets.enforcement import (
    MIN_THINKING_TOKENS,
    effort_within,
    own_limit,
    with_effort,
    with_instruction,
    with_reasoning,
)
from gateway.types import Capabilities, HostedModel, ModelPrice

PLAIN = HostedModel("m", "p", "m", ModelPrice(1, 1))
BY_EFFORT = replace(PLAIN, capabilities=Capabilities(reasoning="effort"))
BY_BUDGET = replace(PLAIN, capabilities=Capabilities(reasoning="thinking"))
MESSAGES = [{"role": "user", "content": "hi"}]
BODY = {"messages": MESSAGES, "max_tokens": 4096}


@pytest.mark.parametrize(
    ("tokens", "effort"),
    [(16, "low"), (1024, "low"), (2048, "medium"), (2049, "high"), (4096, "high")],
)
def test_a_larger_allotment_is_thought_about_more(tokens, effort) -> None:
    assert effort_within(tokens) == effort
    assert with_reasoning(BODY | {"max_tokens": tokens}, BY_EFFORT)["reasoning_effort"] == effort


def test_a_model_that_does_not_reason_is_told_nothing() -> None:
    assert with_reasoning(BODY, PLAIN) is BODY


def test_an_effort_is_told_to_models_that_take_one() -> None:
    assert with_effort(BODY, BY_EFFORT, "low") == BODY | {"reasoning_effort": "low"}
    assert with_effort(BODY, PLAIN, "low") is BODY
    assert with_effort(BODY, BY_BUDGET, "low") is BODY


def test_without_an_output_limit_there_is_nothing_to_share() -> None:
    assert with_reasoning({"messages": MESSAGES}, BY_EFFORT) == {"messages": MESSAGES}


@pytest.mark.parametrize("field", ["reasoning_effort", "reasoning", "thinking"])
@pytest.mark.parametrize("model", [BY_EFFORT, BY_BUDGET])
def test_what_the_caller_says_of_thinking_stays(field, model) -> None:
    body = BODY | {field: "x"}
    assert with_reasoning(body, model) is body


def test_what_the_model_s_settings_say_of_thinking_stays() -> None:
    model = replace(BY_EFFORT, request_defaults={"reasoning_effort": "high"})
    assert with_reasoning(BODY, model) is BODY


@given(st.integers(1, 2**31 - 1))
def test_a_thinking_budget_is_admissible_and_leaves_room_for_an_answer(tokens) -> None:
    thinking = with_reasoning(BODY | {"max_tokens": tokens}, BY_BUDGET).get("thinking")
    budget = None if thinking is None else thinking["budget_tokens"]
    assert budget is None or MIN_THINKING_TOKENS <= budget < tokens


def test_a_small_allotment_is_answered_without_thinking() -> None:
    assert "thinking" not in with_reasoning(BODY | {"max_tokens": 1024}, BY_BUDGET)


@pytest.mark.parametrize(
    "change",
    [
        {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"messages": [*MESSAGES, {"role": "tool", "content": "4", "tool_call_id": "1"}]},
    ],
)
def test_does_not_think_where_anthropic_would_refuse_it(change) -> None:
    assert "thinking" not in with_reasoning(BODY | change, BY_BUDGET)


def test_the_line_comes_before_a_model_s_own_system_prompt() -> None:
    own = replace(PLAIN, system_prompt="You are brief.")
    lines = [model.system_prompt for model in with_instruction((PLAIN, own), 512)]
    line = "Think for at most 512 tokens."
    assert lines == [line, f"{line}\nYou are brief."]


def test_the_output_limit_of_an_arm_is_its_smaller_default() -> None:
    both = {"max_tokens": 300, "max_completion_tokens": 200}
    assert own_limit(replace(PLAIN, request_defaults=both)) == 200
    assert own_limit(replace(PLAIN, request_defaults={"max_tokens": "lots"})) is None
    assert own_limit(PLAIN) is None
