"""A request in Anthropic's form is mended for a Claude model that its caller did not name."""

import time
from typing import Any

import pytest

from gateway.providers.anthropic_native import native_body
from gateway.providers.base import UpstreamCall
from gateway.types import HostedModel, ModelPrice, NativeRequest
from gateway.wires.messages_request import chat_body
from tests.fakes.messages import AGENT, HELLO
from tests.fakes.vendor_rules import refused_by_anthropic

pytest.importorskip("anthropic")

SONNET = "claude-sonnet-4-5"
BLANK = {"type": "text", "text": " \n"}
HI = {"type": "text", "text": "Hi"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}


def sent(
    name: str = SONNET, *, is_chosen: bool = True, **changes: Any
) -> tuple[dict[str, Any], set[str]]:
    """Return what a Claude model is sent, and what was left out."""
    given = {**HELLO, **changes}
    dropped: set[str] = set()
    call = UpstreamCall(
        HostedModel("claude", "acme", name, ModelPrice(1, 1)),
        chat_body(given),
        60.0,
        "req_0",
        native=NativeRequest("messages", given),
        dropped=dropped,
        is_chosen=is_chosen,
    )
    before = repr(given)
    made = native_body(call, is_stream=False)
    assert repr(given) == before
    return made, dropped


def said(*content: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": list(content)}


RESULT = {"type": "tool_result", "tool_use_id": "toolu_1"}
MENDED: dict[str, tuple[dict[str, Any], dict[str, Any], set[str]]] = {
    "both kinds of sampling": (
        {"temperature": 0.5, "top_p": 0.9},
        {"temperature": 0.5},
        {"top_p"},
    ),
    "sampling beside thoughts": (
        {
            "max_tokens": 4096,
            "temperature": 0.5,
            "top_p": 1,
            "top_k": 5,
            "thinking": {"type": "enabled", "budget_tokens": 2048},
        },
        {"max_tokens": 4096, "thinking": {"type": "enabled", "budget_tokens": 2048}},
        {"temperature", "top_k"},
    ),
    "blank stops": (
        {"stop_sequences": ["END", "\n", ""]},
        {"stop_sequences": ["END"]},
        {"stop_sequences"},
    ),
    "an empty stop": ({"stop_sequences": [""]}, {}, set()),
    "blank texts": (
        {"messages": [said(BLANK, HI, BLANK)], "system": [BLANK]},
        {"messages": [said(HI)]},
        set(),
    ),
    "blank turns": (
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": " "},
                said(BLANK),
                {"role": "user", "content": "Hi"},
            ],
            "system": "",
        },
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Hi"}]},
        set(),
    ),
    "a blank result": (
        {
            "messages": [
                said(HI),
                said(USE, role="assistant"),
                said({**RESULT, "content": [BLANK, HI]}),
            ]
        },
        {"messages": [said(HI), said(USE, role="assistant"), said({**RESULT, "content": [HI]})]},
        set(),
    ),
    "an answer that the model begins": (
        {"messages": [{"role": "assistant", "content": "Hello!"}, said(HI)]},
        {
            "messages": [
                {"role": "user", "content": "."},
                {"role": "assistant", "content": "Hello!"},
                said(HI),
            ]
        },
        set(),
    ),
    "a begun answer that ends in a blank": (
        {"messages": [said(HI), said({"type": "text", "text": "So \n"}, role="assistant")]},
        {"messages": [said(HI), said({"type": "text", "text": "So"}, role="assistant")]},
        set(),
    ),
    "a begun answer that is a string": (
        {"messages": [said(HI), {"role": "assistant", "content": "So "}]},
        {"messages": [said(HI), {"role": "assistant", "content": "So"}]},
        set(),
    ),
    "the schema of a tool": (
        {"tools": [{"name": "f", "input_schema": {"properties": {}}}]},
        {"tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]},
        set(),
    ),
    "a tool that Anthropic describes": (
        {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        set(),
    ),
    "the schema of an answer": (
        {
            "output_config": {
                "format": {
                    "type": "json_schema",
                    "schema": {"type": "object", "additionalProperties": True},
                }
            }
        },
        {
            "output_config": {
                "format": {
                    "type": "json_schema",
                    "schema": {"type": "object", "additionalProperties": False},
                }
            }
        },
        set(),
    ),
    "the schema of an answer by its former name": (
        {"output_format": {"type": "json_schema", "schema": {"type": "integer", "minimum": 1}}},
        {
            "output_format": {
                "type": "json_schema",
                "schema": {"type": "integer", "description": '{"minimum":1}'},
            }
        },
        set(),
    ),
    "a format that is none": ({"output_format": None}, {"output_format": None}, set()),
}


@pytest.mark.parametrize(("given", "made", "left_out"), MENDED.values(), ids=MENDED.keys())
def test_what_no_claude_model_takes_is_mended_where_the_gateway_chose(
    given, made, left_out
) -> None:
    assert sent(**given) == ({**HELLO, "model": SONNET, **made}, left_out)


@pytest.mark.parametrize("given", [given for given, *_ in MENDED.values()], ids=MENDED.keys())
def test_a_caller_that_names_a_claude_model_has_its_request_sent_as_it_came(given) -> None:
    assert sent(is_chosen=False, **given) == ({**HELLO, "model": SONNET, **given}, set())


@pytest.mark.parametrize("name", ["claude-3-5-haiku-20241022", "claude-opus-4-0"])
def test_earlier_models_take_both_kinds_of_sampling(name) -> None:
    asked: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9}

    assert asked.items() <= sent(name, **asked)[0].items()


def test_a_request_that_fits_is_sent_as_it_came() -> None:
    made, left_out = sent(**{**AGENT, "max_tokens": 32_000})

    assert (made, left_out) == (AGENT | {"model": SONNET}, set())
    assert sent("claude-opus-4-7", **AGENT)[0]["messages"] == AGENT["messages"]


def test_nothing_said_at_all_is_for_anthropic_to_judge() -> None:
    assert sent(messages=[said(BLANK)])[0]["messages"] == [said(BLANK)]


def test_many_stops_take_time_in_proportion() -> None:
    stops = [str(n) for n in range(100_000)] + ["\n"]
    began_s = time.process_time()
    made, _ = sent(stop_sequences=stops)
    assert made["stop_sequences"] == stops[:-1]
    assert time.process_time() - began_s < 1.0  # the square of it would take minutes


BLANKS = ["blank texts", "blank turns", "a blank result", "an answer that the model begins"]
BLANKS += ["a begun answer that ends in a blank", "the schema of a tool"]


@pytest.mark.parametrize("case", BLANKS)
def test_anthropic_takes_what_was_mended_and_not_what_came(case) -> None:
    given, _, _ = MENDED[case]

    assert refused_by_anthropic({**HELLO, "model": SONNET, **given})
    assert refused_by_anthropic(sent(**given)[0]) == []
