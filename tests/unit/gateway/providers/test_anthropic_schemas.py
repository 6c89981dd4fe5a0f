"""Schemas of tools and of answers, as Anthropic takes them."""

import time
from typing import Any

import pytest

from gateway.providers.anthropic_schemas import tool_schema
from gateway.providers.anthropic_wire import to_anthropic


def sent(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hi"}]
    return to_anthropic({"messages": messages, **fields}, "claude-sonnet-4-5", None)


TEXTS = {"type": "string"}
NUMBER = {"type": "number"}
TOOL_SCHEMAS: dict[str, tuple[Any, Any]] = {
    "none": (None, {"type": "object", "properties": {}}),
    "empty": ({}, {"type": "object", "properties": {}}),
    "without a type": ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
    "of another type": ({"type": ["object", "null"]}, {"type": "object"}),
    "whole": ({"type": "object", "maxProperties": 3}, {"type": "object", "maxProperties": 3}),
    "one of two": (
        {
            "$defs": {"city": {"type": "object", "properties": {"a": TEXTS, "c": TEXTS}}},
            "oneOf": [
                {"type": "object", "properties": {"a": TEXTS, "b": NUMBER}, "required": ["a"]},
                {"$ref": "#/$defs/city"},
                {"type": "null"},
            ],
        },
        {
            "type": "object",
            "$defs": {"city": {"type": "object", "properties": {"a": TEXTS, "c": TEXTS}}},
            "properties": {"a": TEXTS, "b": NUMBER, "c": TEXTS},
        },
    ),
    "of other types": (
        {
            "anyOf": [
                {"properties": {"a": TEXTS}, "required": ["a"]},
                {"properties": {"a": NUMBER, "b": {}}, "required": ["b", "a"]},
            ]
        },
        {
            "type": "object",
            "properties": {"a": {"anyOf": [TEXTS, NUMBER]}, "b": {}},
            "required": ["a"],
        },
    ),
    "all of them": (
        {
            "properties": {"a": TEXTS},
            "required": ["a"],
            "allOf": [
                {"anyOf": [{"properties": {"b": NUMBER}, "required": ["b"]}]},
                {"required": ["a"], "properties": {"c": {}}},
            ],
        },
        {
            "type": "object",
            "properties": {"a": TEXTS, "b": NUMBER, "c": {}},
            "required": ["a", "b"],
        },
    ),
}


@pytest.mark.parametrize(("given", "wanted"), TOOL_SCHEMAS.values(), ids=TOOL_SCHEMAS.keys())
def test_the_schema_of_a_tool_is_an_objects(given: Any, wanted: Any) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": given}}
    assert sent(tools=[tool])["tools"] == [{"name": "f", "input_schema": wanted}]


SCHEMA = {
    "type": "object",
    "additionalProperties": True,
    "properties": {
        "minimum": {"type": "integer", "minimum": 1, "description": "How many."},
        "names": {"type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 9}},
        "when": {"type": "string", "format": "date-time"},
        "colour": {"type": "string", "format": "color"},
        "either": {"oneOf": [{"type": "null"}, {"type": "object", "properties": {}}]},
    },
    "$defs": {"part": {"type": "array", "minItems": 1}},
    "required": ["minimum"],
}
TAKEN = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "minimum": {"type": "integer", "description": 'How many.\n\n{"minimum":1}'},
        "names": {
            "type": "array",
            "items": {"type": "string", "description": '{"maxLength":9}'},
            "description": '{"maxItems":3}',
        },
        "when": {"type": "string", "format": "date-time"},
        "colour": {"type": "string", "description": '{"format":"color"}'},
        "either": {
            "anyOf": [
                {"type": "null"},
                {"type": "object", "properties": {}, "additionalProperties": False},
            ]
        },
    },
    "$defs": {"part": {"type": "array", "minItems": 1}},
    "required": ["minimum"],
}


def test_schemas_keep_to_the_subset_that_anthropic_publishes() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    function = {"name": "f", "parameters": SCHEMA, "strict": True}
    body = sent(response_format=wanted, tools=[{"type": "function", "function": function}])
    assert body["output_config"]["format"]["schema"] == TAKEN
    assert body["tools"][0]["input_schema"] == TAKEN


def test_alternatives_that_refer_to_each_other_end() -> None:
    circle = {"anyOf": [{"$ref": "#/$defs/a"}]}
    schema = tool_schema({**circle, "$defs": {"a": circle}}, is_strict=False)
    assert schema == {"type": "object", "$defs": {"a": circle}, "properties": {}}


def test_no_alternatives_take_long_to_join() -> None:
    many = {f"p{n}": {"const": n} for n in range(10_000)}
    refs = {"$defs": {"a": {"properties": many}}, "anyOf": [{"$ref": "#/$defs/a"}] * 10_000}
    forms = {"oneOf": [{"properties": {"a": {"const": n}}} for n in range(10_000)]}
    begun_s = time.process_time()
    assert tool_schema(refs, is_strict=False)["properties"] == many
    assert len(tool_schema(forms, is_strict=False)["properties"]["a"]["anyOf"]) == 10_000
    assert time.process_time() - begun_s < 5
