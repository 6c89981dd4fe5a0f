"""What came in Anthropic's form is sent as it came, but for what the model at hand refuses."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.budgets.worst_case import with_output_limit
from gateway.providers.anthropic_native import native_body, native_headers
from gateway.providers.base import UpstreamCall
from gateway.types import HostedModel, ModelPrice, NativeRequest
from gateway.wires.messages_request import chat_body
from tests.fakes.messages import AGENT, HELLO

SONNET = "claude-sonnet-4-5"
MODEL = HostedModel("claude", "acme", SONNET, ModelPrice(1, 1))
BUDGET = {"type": "enabled", "budget_tokens": 4096}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "4"}


def sent(
    host: HostedModel = MODEL, granted: int | None = None, extra: Any = (), **changes: Any
) -> dict[str, Any]:
    given = HELLO | {"max_tokens": 8000} | changes
    body = {**with_output_limit(chat_body(given), host, granted), **dict(extra)}
    call = UpstreamCall(host, body, 60.0, "req_0", native=NativeRequest("messages", given))
    before = repr(given)
    made = native_body(call, is_stream=False)
    assert repr(given) == before
    return made


def named(upstream_name: str, **fields: Any) -> HostedModel:
    return replace(MODEL, upstream_name=upstream_name, **fields)


def test_a_request_that_fits_is_sent_as_it_came() -> None:
    assert sent(**AGENT) == AGENT | {"model": SONNET}


def test_the_output_limit_is_what_the_budgets_grant_and_thinking_stays_below_it() -> None:
    assert sent(granted=2000)["max_tokens"] == 2000
    assert sent(granted=2000, thinking=BUDGET)["thinking"]["budget_tokens"] == 1999
    assert "thinking" not in sent(granted=1000, thinking=BUDGET)
    assert sent(granted=9000, thinking=BUDGET)["thinking"] == BUDGET


def test_thinking_that_a_turn_budget_allots_is_added_where_the_caller_said_nothing() -> None:
    allotted = {"thinking": {"type": "enabled", "budget_tokens": 1500}}

    assert sent(extra=allotted)["thinking"]["budget_tokens"] == 1500
    assert sent(extra=allotted, thinking=BUDGET)["thinking"] == BUDGET


def test_the_models_own_prompt_and_defaults_are_added() -> None:
    model = named(SONNET, system_prompt="Be kind.", request_defaults={"temperature": 0.2})

    assert sent(model)["system"] == "Be kind."
    assert sent(model, system="Be brief.")["system"] == "Be kind.\n\nBe brief."
    blocks = sent(model, system=[{"type": "text", "text": "Be brief."}])["system"]
    assert [block["text"] for block in blocks] == ["Be kind.", "Be brief."]
    assert sent(model)["temperature"] == 0.2
    assert sent(model, temperature=1)["temperature"] == 1
    assert "temperature" not in sent(model, thinking=BUDGET)


def test_sampling_is_left_out_for_models_that_refuse_it() -> None:
    asked: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "top_k": 5}

    assert asked.keys() <= sent(**asked).keys()
    assert not asked.keys() & sent(named("claude-opus-4-7"), **asked).keys()


@pytest.mark.parametrize(
    ("name", "thinking", "effort", "made"),
    [
        (SONNET, {"type": "adaptive"}, "medium", {"type": "enabled", "budget_tokens": 7999}),
        (SONNET, {"type": "adaptive"}, "low", {"type": "enabled", "budget_tokens": 2048}),
        (SONNET, {"type": "disabled"}, None, {"type": "disabled"}),
        ("claude-opus-4-7", BUDGET, None, {"type": "adaptive"}),
        ("claude-opus-4-6", BUDGET, None, BUDGET),
        ("claude-fable-5", BUDGET, None, None),
        ("claude-fable-5", {"type": "disabled"}, None, None),
        ("claude-fable-5", {"type": "adaptive"}, None, {"type": "adaptive"}),
        ("claude-3-5-haiku-20241022", BUDGET, None, None),
    ],
)
def test_thinking_is_said_as_the_model_understands_it(name, thinking, effort, made) -> None:
    config: dict[str, Any] = {} if effort is None else {"output_config": {"effort": effort}}

    assert sent(named(name), thinking=thinking, **config).get("thinking") == made


@pytest.mark.parametrize(
    ("name", "effort", "made"),
    [
        (SONNET, "high", None),
        ("claude-opus-4-5", "high", {"effort": "high"}),
        ("claude-opus-4-6", "max", {"effort": "high"}),
        ("claude-opus-4-7", "max", {"effort": "max"}),
        ("claude-opus-4-6", "unheard-of", {"effort": "unheard-of"}),
    ],
)
def test_effort_is_asked_of_models_that_know_it(name, effort, made) -> None:
    assert sent(named(name), output_config={"effort": effort}).get("output_config") == made


def test_thoughts_that_anthropic_did_not_sign_are_left_out() -> None:
    text = {"type": "text", "text": "4"}
    turn = {"role": "assistant", "content": [{**THOUGHT, "signature": ""}, THOUGHT, text]}

    messages = sent(messages=[*HELLO["messages"], turn])["messages"]

    assert messages[1]["content"] == [THOUGHT, text]


def test_what_else_is_said_of_the_output_stays_without_the_effort() -> None:
    wanted = {"type": "json_schema", "schema": {"type": "object"}}

    made = sent(output_config={"effort": "high", "format": wanted})

    assert made["output_config"] == {"format": wanted}


@pytest.mark.parametrize("content", ["4", []])
def test_thinks_on_where_no_call_was_answered(content) -> None:
    messages = [*HELLO["messages"], {"role": "assistant", "content": [USE]}]
    messages.append({"role": "user", "content": content})

    assert sent(messages=messages, thinking=BUDGET)["thinking"] == BUDGET


@pytest.mark.parametrize(("calls", "thinks"), [([THOUGHT, USE], True), ([USE], False)])
def test_does_not_think_on_amid_calls_that_another_model_made(calls, thinks) -> None:
    messages = [
        *HELLO["messages"],
        {"role": "assistant", "content": calls},
        {"role": "user", "content": [RESULT]},
    ]
    edits = [{"type": "clear_thinking_20251015"}, {"type": "clear_tool_uses_20250919"}]
    managed: dict[str, Any] = {"context_management": {"edits": edits}}

    made = sent(messages=messages, thinking=BUDGET, **managed)

    assert ("thinking" in made) == thinks
    assert made["context_management"]["edits"] == (edits if thinks else edits[1:])
    managed = {"context_management": {"edits": edits[:1]}}
    assert ("context_management" in sent(messages=messages, thinking=BUDGET, **managed)) == thinks


@pytest.mark.parametrize(
    ("asked", "sent_on"),
    [
        ({}, {}),
        ({"anthropic-beta": "a-1,b-2"}, {"anthropic-beta": "a-1,b-2"}),
        ({"anthropic-beta": "context-1m-2025-08-07"}, {}),
        ({"anthropic-beta": "a-1,Context-1M-2,b-2"}, {"anthropic-beta": "a-1,b-2"}),
    ],
)
def test_betas_are_sent_on_unless_they_lengthen_the_context(asked, sent_on) -> None:
    native = NativeRequest("messages", HELLO, asked)
    call = UpstreamCall(MODEL, {}, 60.0, "req_0", native=native)

    assert native_headers(call) == sent_on
