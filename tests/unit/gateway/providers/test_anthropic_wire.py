import time
from typing import Any

import pytest

from gateway.errors import ProviderRejected
from gateway.providers.anthropic_wire import from_anthropic, to_anthropic, usage_of
from gateway.types import Usage

ASK = [{"role": "user", "content": "Hi"}]
TURN = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "strict": True,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def translated(model: str = "claude-sonnet-4-5", limit: int | None = None, **fields: Any) -> Any:
    return to_anthropic({"messages": ASK, **fields}, model, limit)


def test_translates_the_least_request() -> None:
    assert translated() == {"model": "claude-sonnet-4-5", "messages": TURN, "max_tokens": 16_384}


def test_translates_system_sampling_stops_and_user() -> None:
    body = {
        "messages": [{"role": "system", "content": "Be brief."}, *ASK],
        "temperature": 1.5,
        "top_p": 0.9,
        "stop": "END",
        "user": "u-1",
        "max_completion_tokens": 50,
        "max_tokens": 70,
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": 7,
        "presence_penalty": 0.5,
    }
    assert to_anthropic(body, "claude-3-7-sonnet", None) == {
        "model": "claude-3-7-sonnet",
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": TURN,
        "max_tokens": 50,
        "temperature": 1,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
        "stream": True,
    }


def test_leaves_sampling_out_for_models_that_refuse_it() -> None:
    body = translated("claude-sonnet-5-5", temperature=0, top_p=0.5)
    assert "temperature" not in body
    assert "top_p" not in body


def test_a_top_p_of_one_means_nothing() -> None:
    assert "top_p" not in translated(top_p=1, temperature=0.2)


def test_keeps_a_list_of_stops() -> None:
    assert translated(stop=["a", "b"])["stop_sequences"] == ["a", "b"]


def test_many_stops_take_time_in_proportion() -> None:
    stops = [str(n) for n in range(100_000)] + ["\n"]
    began_s = time.process_time()
    assert translated(stop=stops)["stop_sequences"] == stops[:-1]
    assert time.process_time() - began_s < 1.0  # the square of it would take minutes


@pytest.mark.parametrize(
    "fields",
    [{"safety_identifier": "u", "user": "v"}, {"user": "u"}, {"metadata": {"user_id": "u"}}],
)
def test_finds_the_user_where_it_is_named(fields: dict[str, Any]) -> None:
    assert translated(**fields)["metadata"] == {"user_id": "u"}


def test_uses_the_models_output_limit_where_it_is_lower() -> None:
    assert translated(limit=4096)["max_tokens"] == 4096
    assert translated(limit=64_000)["max_tokens"] == 16_384
    assert translated("claude-3-haiku-20240307")["max_tokens"] == 4096


def test_passes_anthropics_own_and_unknown_fields() -> None:
    body = translated(top_k=5, thinking={"type": "disabled"}, x_new=1, reasoning_effort="high")
    assert body["top_k"] == 5
    assert body["thinking"] == {"type": "disabled"}
    assert body["x_new"] == 1


def test_translates_tools() -> None:
    bare = {"type": "function", "function": {"name": "now"}, "cache_control": {"type": "ephemeral"}}
    assert translated(tools=[WEATHER, bare])["tools"] == [
        {
            "name": "weather",
            "description": "Tells the weather.",
            "strict": True,
            "input_schema": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "additionalProperties": False,
            },
        },
        {
            "name": "now",
            "input_schema": {"type": "object", "properties": {}},
            "cache_control": {"type": "ephemeral"},
        },
    ]


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("auto", None, {"type": "auto"}),
        ("auto", True, {"type": "auto"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ("none", False, {"type": "none"}),
        (
            {"type": "function", "function": {"name": "weather"}},
            None,
            {"type": "tool", "name": "weather"},
        ),
    ],
)
def test_translates_the_choice_of_tools(choice: Any, parallel: Any, expected: Any) -> None:
    body = translated(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=parallel)
    assert body.get("tool_choice") == expected


def test_asks_for_json_by_schema() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    body = translated(response_format=wanted, output_config={"effort": "low"})
    assert body["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": schema},
    }


def test_asks_for_json_in_words_where_there_is_no_schema() -> None:
    body = translated(response_format={"type": "json_object"})
    assert "JSON" in body["system"][0]["text"]
    assert "system" not in translated(response_format={"type": "text"})


@pytest.mark.parametrize(
    ("effort", "asked", "thinking", "max_tokens"),
    [
        ("low", None, {"type": "enabled", "budget_tokens": 2048}, 16_384 + 2048),
        ("high", 4000, {"type": "enabled", "budget_tokens": 3999}, 4000),
        ("high", 1000, None, 1000),
        ("none", None, None, 16_384),
    ],
)
def test_turns_effort_into_a_thinking_budget_inside_the_limit(
    effort: str, asked: int | None, thinking: Any, max_tokens: int
) -> None:
    body = translated("claude-sonnet-4-5", reasoning_effort=effort, max_tokens=asked)
    assert body.get("thinking") == thinking
    assert body["max_tokens"] == max_tokens


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "level"),
    [
        ("claude-opus-5-5", "minimal", {"type": "adaptive"}, "low"),
        ("claude-opus-5-5", "xhigh", {"type": "adaptive"}, "xhigh"),
        ("claude-opus-4-6", "xhigh", {"type": "adaptive"}, "high"),
        ("claude-opus-5-5", "none", {"type": "disabled"}, None),
        ("claude-fable-5-2", "none", None, "low"),
        ("claude-fable-5-2", "high", None, "high"),
        ("claude-3-5-haiku-latest", "high", None, None),
    ],
)
def test_turns_effort_into_what_the_model_knows(
    model: str, effort: str, thinking: Any, level: str | None
) -> None:
    body = translated(model, reasoning_effort=effort)
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == level


def test_does_not_think_under_a_budget_with_a_forced_tool_or_amid_tool_calls() -> None:
    forced = translated(tools=[WEATHER], tool_choice="required", reasoning_effort="high")
    assert "thinking" not in forced
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    amid = [
        *ASK,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "sunny"},
    ]
    assert "thinking" not in translated(messages=amid, reasoning_effort="high")


def test_does_not_send_temperature_while_thinking() -> None:
    assert "temperature" not in translated(reasoning_effort="high", temperature=0)
    assert translated(reasoning_effort="none", temperature=0)["temperature"] == 0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"functions": [{}]}, "functions"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"reasoning_effort": "vast"}, "reasoning_effort"),
        ({"tools": [{"type": "custom"}]}, "tools[0]"),
        ({"tools": [WEATHER], "tool_choice": "maybe"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
    ],
)
def test_refuses_what_has_no_equivalent(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ProviderRejected) as caught:
        translated(**fields)
    assert caught.value.status == 400
    assert caught.value.body is not None
    assert caught.value.body["param"] == param


@pytest.mark.parametrize("fields", [{"n": 1, "logprobs": False}, {"logit_bias": {}}])
def test_takes_what_changes_nothing(fields: dict[str, Any]) -> None:
    assert translated(**fields) == translated()


ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "x"},
        {"type": "text", "text": "It is "},
        {"type": "text", "text": "sunny."},
    ],
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 2},
    },
}


@pytest.mark.parametrize(
    ("reported", "written", "for_an_hour"),
    [
        ({"cache_creation_input_tokens": 20}, 20, 0),
        (
            {
                "cache_creation_input_tokens": 20,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 5,
                    "ephemeral_1h_input_tokens": 15,
                },
            },
            20,
            15,
        ),
        ({"cache_creation": {"ephemeral_1h_input_tokens": 15}}, 15, 15),
        ({"cache_creation_input_tokens": 20, "cache_creation": "15"}, 20, 0),
        ({"cache_creation": {"ephemeral_1h_input_tokens": -1}}, 0, 0),
    ],
)
def test_reads_what_the_cache_keeps_for_an_hour(reported, written, for_an_hour) -> None:
    usage = usage_of({"input_tokens": 10, "output_tokens": 5, **reported})
    assert usage == Usage(
        10 + written, 5, cache_write_tokens=written, cache_write_1h_tokens=for_an_hour
    )


def test_translates_an_answer() -> None:
    assert from_anthropic(ANSWER, 17) == {
        "id": "msg_1",
        "object": "chat.completion",
        "created": 17,
        "model": "claude-sonnet-4-5-20250929",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "It is sunny.",
                    "refusal": None,
                    "reasoning_content": "Hm.",
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 130,
            "completion_tokens": 5,
            "total_tokens": 135,
            "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 20},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    }


def test_translates_tool_calls() -> None:
    use = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}}
    body = from_anthropic({**ANSWER, "content": [use], "stop_reason": "tool_use"}, 17)
    choice = body["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {
                "id": "t1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
            }
        ],
    }


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
        (None, None),
    ],
)
def test_translates_why_the_answer_ended(stop_reason: Any, finish_reason: Any) -> None:
    body = from_anthropic({**ANSWER, "stop_reason": stop_reason}, 17)
    assert body["choices"][0]["finish_reason"] == finish_reason


def test_refuses_what_is_not_a_message() -> None:
    with pytest.raises(ValueError, match="not a message"):
        from_anthropic({"type": "error"}, 17)


def test_there_is_no_usage_where_nothing_is_reported() -> None:
    assert usage_of({}) is None
