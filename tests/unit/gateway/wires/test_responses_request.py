"""Requests of OpenAI's Responses are read as requests of chat completions."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.types import CARRIED
from gateway.wire import ChatRequest, parse_chat_request
from gateway.wires.responses_request import parse_responses_request
from gateway.wires.responses_tools import function_name, read_input, renamed_tools
from tests.fakes.responses import AGENT, FILES, HELLO, PATCH, PIXEL, SESSION, WEATHER

USER = {"role": "user", "content": "Hi."}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "4"}


def call(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": f"c{number}",
        "name": "f",
        "arguments": "{}",
        **fields,
    }


def parsed(headers: dict[bytes, bytes] | None = None, /, **fields: Any) -> ChatRequest:
    return parse_responses_request(orjson.dumps(HELLO | fields), headers or {})


def messages(*items: Any, **fields: Any) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = parsed(input=list(items), **fields).body["messages"]
    return sent


def test_a_string_is_a_users_message_and_instructions_are_the_systems() -> None:
    assert parsed(instructions="Be brief.").body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Say hello."},
    ]


def test_an_agents_request_keeps_what_it_was_sent_as_for_native_upstreams() -> None:
    request = parse_responses_request(orjson.dumps(AGENT), {b"session-id": SESSION.encode()})

    assert request.native is not None
    assert request.native.body == AGENT
    assert request.effort == "medium"
    assert request.options.conversation_id == SESSION
    assert request.query == "What is in the picture, and the weather?"
    hidden = [item["type"] for item in request.body["messages"][-1][CARRIED]]
    assert hidden == ["reasoning", "web_search_call"]


def test_the_callers_own_name_of_a_conversation_comes_first() -> None:
    headers = {b"session_id": b"theirs", b"x-waypost-conversation-id": b"mine"}

    assert parsed(headers).options.conversation_id == "mine"
    assert parsed({b"session_id": b"not a name"}).options.conversation_id is None


def test_every_kind_of_content_is_translated() -> None:
    content = [
        {"type": "input_text", "text": "a"},
        {"type": "input_image", "image_url": PIXEL},
        {"type": "input_image", "file_id": "file-1", "detail": "high"},
        {"type": "input_file", "file_data": "data:x", "filename": "a.pdf"},
        {"type": "input_file", "file_id": "file-2"},
        {"type": "input_file", "file_url": "https://a.example/a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
        {"type": "refusal", "refusal": "No."},
    ]

    (sent,) = messages({"role": "user", "content": content})

    assert sent["content"] == [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_data": "data:x", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_id": "file-2"}},
        {"type": "file", "file": {"file_data": "https://a.example/a.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
        {"type": "text", "text": "No."},
    ]


def test_what_a_model_put_out_in_a_row_is_one_message_and_results_follow_it() -> None:
    said = {"role": "assistant", "content": [{"type": "output_text", "text": "I look."}]}
    refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    late = {"type": "function_call_output", "call_id": "c2", "output": "5"}

    sent = messages(USER, said, call(1), call(2), refused, OUTPUT, USER, late)

    roles = [(one["role"], one.get("content")) for one in sent]
    assert roles == [
        ("user", "Hi."),
        ("assistant", "I look.\n\nNo."),
        ("tool", "4"),
        ("tool", "5"),
        ("user", "Hi."),
    ]
    assert [one["id"] for one in sent[1]["tool_calls"]] == ["c1", "c2"]


def test_calls_that_were_answered_one_by_one_stay_apart() -> None:
    late = {"type": "function_call_output", "call_id": "c2", "output": "5"}

    sent = messages(USER, call(1), OUTPUT, call(2), late)

    assert [one["role"] for one in sent] == ["user", "assistant", "tool", "assistant", "tool"]


def test_pictures_in_results_follow_all_results() -> None:
    shown = OUTPUT | {"output": [{"type": "input_image", "image_url": PIXEL}]}
    late = {"type": "function_call_output", "call_id": "c2", "output": "5"}

    sent = messages(USER, call(1), call(2), shown, late, call(3))

    assert [one["role"] for one in sent[1:]] == ["assistant", "tool", "tool", "user", "assistant"]
    assert sent[2]["content"] == "The result is in the picture that follows."
    assert messages(USER, call(1), shown)[-1]["content"][0]["type"] == "image_url"


def test_a_result_of_no_call_is_the_models_to_judge() -> None:
    assert [one["role"] for one in messages(OUTPUT, USER)] == ["tool", "user"]


def test_an_instruction_amid_a_conversation_is_a_reminder() -> None:
    late = {"role": "developer", "content": "Stop."}

    after_user, after_call = messages(USER, late), messages(USER, call(1), late, OUTPUT)

    assert after_user[0]["content"][1]["text"] == "<system-reminder>\nStop.\n</system-reminder>"
    assert [one["role"] for one in after_call] == ["user", "assistant", "tool", "user"]


def test_readable_thoughts_stay_with_what_was_said_and_encrypted_ones_are_left_out() -> None:
    read = {
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "a"}],
    }
    hidden = {"type": "reasoning", "summary": [{"text": "b"}], "encrypted_content": "x"}

    sent = messages(USER, read, hidden, call(1), OUTPUT, read)

    assert sent[1]["reasoning_content"] == "a"
    assert [one["role"] for one in sent] == ["user", "assistant", "tool"]


def test_a_reference_to_thoughts_is_left_out() -> None:
    """Vercel's AI SDK sends one unless it is told that nothing is stored."""
    assert len(messages(USER, {"type": "item_reference", "id": "rs_wp_x_0"}, call(1))) == 2


def test_turns_are_counted_without_what_a_client_adds() -> None:
    added = {"role": "user", "content": "<environment_context>\n/home"}
    request = parsed(input=[added, USER, call(1), OUTPUT, USER, {"role": "user", "content": ""}])

    assert (request.turn_index, request.query) == (1, "Hi.")


def test_hints_are_left_out_and_unknown_fields_stay_under_their_own_names() -> None:
    hints = {"store": True, "truncation": "auto", "max_tool_calls": 3, "client_metadata": {"a": 1}}

    body = parsed(**hints, top_k=5, background=False, conversation=None).body

    assert set(body) == {"model", "messages", "top_k"}


def test_a_choice_of_a_tool_names_its_function() -> None:
    tools = [WEATHER, PATCH, FILES]
    for choice, name in (
        ({"type": "function", "name": "get_weather"}, "get_weather"),
        ({"type": "custom", "name": "apply_patch"}, "apply_patch"),
        ({"type": "function", "namespace": "mcp__files", "name": "read"}, "mcp__files__read"),
    ):
        body = parsed(tools=tools, tool_choice=choice).body
        assert body["tool_choice"] == {"type": "function", "function": {"name": name}}


def test_tools_of_a_hosts_own_stay_as_they_are() -> None:
    search = {"type": "web_search", "search_context_size": "low"}

    assert parsed(tools=[search, {"type": "function", "name": "f"}]).body["tools"] == [
        search,
        {
            "type": "function",
            "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
        },
    ]


def test_a_strict_tool_stays_strict_and_json_may_be_asked_for_without_a_schema() -> None:
    tools = [WEATHER | {"strict": True}]

    body = parsed(tools=tools, text={"format": {"type": "json_object"}}).body

    assert body["tools"][0]["function"]["strict"] is True
    assert body["response_format"] == {"type": "json_object"}


def test_a_long_name_in_a_namespace_is_shortened_and_comes_back() -> None:
    name = "read_" + "x" * 55
    given = [{"type": "web_search"}, FILES | {"tools": [{"type": "custom", "name": name}]}]

    short = function_name(name, "mcp__files")

    assert len(short) == 64
    assert function_name(name, "other__") != short
    assert renamed_tools(given)[short].name == name
    assert parsed(tools=given).body["tools"][1]["function"]["name"] == short


@pytest.mark.parametrize("arguments", ["+ a", "[1]", '{"input":1}', '{"other":"x"}'])
def test_an_input_that_a_model_wrote_in_no_object_is_taken_as_it_is(arguments) -> None:
    assert read_input(arguments) == arguments


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "no input": ({"input": None}, "input"),
    "a number": ({"input": 5}, "input"),
    "empty": ({"input": []}, "input"),
    "an item that is no object": ({"input": [USER, "x"]}, "input[1]"),
    "an item of no known type": ({"input": [{"type": "unheard_of"}]}, "input[0]"),
    "an item whose type is a list": ({"input": [{"type": ["message"]}]}, "input[0]"),
    "no role": ({"input": [{"content": "x"}]}, "input[0]"),
    "a strange role": ({"input": [{"role": "tool", "content": "x"}]}, "input[0]"),
    "no content": ({"input": [{"role": "user", "content": 5}]}, "input[0]"),
    "a strange part": ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, "input[0]"),
    "an image without one": (
        {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
        "input[0]",
    ),
    "arguments as an object": ({"input": [call(1, arguments={})]}, "input[0]"),
    "a call without an id": ({"input": [call(1, call_id=None)]}, "input[0]"),
    "a result without text": ({"input": [OUTPUT | {"output": None}]}, "input[0]"),
    "an item by its id": ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
    "a compaction": ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input[0]"),
    "instructions as a list": ({"instructions": ["x"]}, "instructions"),
    "earlier response": ({"previous_response_id": "resp_1"}, "previous_response_id"),
    "conversation": ({"conversation": {"id": "conv_1"}}, "conversation"),
    "background": ({"background": True}, "background"),
    "stored prompt": ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    "chat's messages": ({"messages": [USER]}, "messages"),
    "chat's limit": ({"max_tokens": 5}, "max_tokens"),
    "chat's format": ({"response_format": {"type": "json_object"}}, "response_format"),
    "several answers": ({"n": 2}, "n"),
    "a limit of zero": ({"max_output_tokens": 0}, "max_output_tokens"),
    "a limit in words": ({"max_output_tokens": "many"}, "max_output_tokens"),
    "text in a word": ({"text": "json"}, "text"),
    "strange format": ({"text": {"format": {"type": "grammar"}}}, "text.format"),
    "reasoning in a word": ({"reasoning": "high"}, "reasoning"),
    "effort in a number": ({"reasoning": {"effort": 5}}, "reasoning.effort"),
    "include in a word": ({"include": "all"}, "include"),
    "top_logprobs in a word": ({"top_logprobs": "all"}, "top_logprobs"),
    "tools as an object": ({"tools": {"a": 1}}, "tools"),
    "a tool in a word": ({"tools": ["web_search"]}, "tools[0]"),
    "a tool whose type is a list": ({"tools": [{"type": []}]}, "tools[0]"),
    "a tool without a name": ({"tools": [{"type": "function"}]}, "tools[0]"),
    "chat's tool": (
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        "tools[0]",
    ),
    "a schema in a word": ({"tools": [WEATHER | {"parameters": "x"}]}, "tools[0]"),
    "a grammar without rules": ({"tools": [PATCH | {"format": "lark"}]}, "tools[0].format"),
    "an empty namespace": ({"tools": [FILES | {"tools": None}]}, "tools[0]"),
    "a host's tool in a namespace": (
        {"tools": [FILES | {"tools": [{"type": "web_search"}]}]},
        "tools[0].tools[0]",
    ),
    "a strange choice": ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice"),
    "a choice of a host's tool": (
        {"tools": [WEATHER], "tool_choice": {"type": "web_search"}},
        "tool_choice",
    ),
    "allowed tools without a mode": (
        {"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "tools": []}},
        "tool_choice",
    ),
}


@pytest.mark.parametrize(("fields", "param"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed_or_cannot_be_served_is_named(fields, param) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(**fields)

    assert refused.value.param == param
    assert param.split("[")[0].split(".")[0] in str(refused.value)


def test_one_who_counts_need_name_no_model() -> None:
    raw = orjson.dumps({"input": "Hi."})

    assert parse_responses_request(raw, {}, is_count=True).model == "auto"
    with pytest.raises(InvalidRequest, match="model"):
        parse_responses_request(raw, {})


texts = st.text(max_size=4)
names = st.sampled_from(["c1", "c2", "c3"])
content = texts | st.lists(
    st.builds(lambda text: {"type": "input_text", "text": text}, texts)
    | st.just({"type": "input_image", "image_url": PIXEL}),
    max_size=2,
)
items = st.one_of(
    st.builds(
        lambda role, said: {"type": "message", "role": role, "content": said},
        st.sampled_from(["user", "assistant", "developer", "system"]),
        texts,
    ),
    st.builds(lambda said: {"role": "user", "content": said}, content),
    st.builds(lambda name: call(1) | {"call_id": name}, names),
    st.builds(
        lambda name, text: {
            "type": "custom_tool_call",
            "call_id": name,
            "name": "apply_patch",
            "input": text,
        },
        names,
        texts,
    ),
    st.builds(
        lambda kind, name, said: {"type": kind, "call_id": name, "output": said},
        st.sampled_from(["function_call_output", "custom_tool_call_output"]),
        names,
        content,
    ),
    st.builds(
        lambda text, hidden: {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": text}],
            "encrypted_content": hidden,
        },
        texts,
        st.none() | texts,
    ),
    st.just({"type": "web_search_call", "id": "ws_1"}),
)


def is_orphan(call_id: str, history: list[Any], called: set[str]) -> bool:
    """Whether a result comes before its call, or without one."""
    of_id = [item for item in history if item.get("call_id") == call_id]
    return call_id not in called or "output" in of_id[0]


@given(history=st.lists(items, max_size=10))
def test_every_history_becomes_a_chat_request_of_the_right_form(history) -> None:
    """A message with calls is followed by their results at once, as hosts demand."""
    body = parsed(input=[*history, USER], tools=[PATCH]).body

    assert parse_chat_request(orjson.dumps(body), {}).body == body
    sent = body["messages"]
    assert "system" not in [message["role"] for message in sent[1:]]
    called: set[str] = set()
    everywhere = {each["id"] for message in sent for each in message.get("tool_calls", ())}
    for message in sent:
        if message["role"] != "tool":
            called = {each["id"] for each in message.get("tool_calls", ())}
            assert message["content"] is not None or called
        elif message["tool_call_id"] in called:
            continue
        else:
            assert is_orphan(message["tool_call_id"], history, everywhere)
    said = "".join(orjson.dumps(m).decode() for m in sent)
    for item in history:
        if item.get("role") == "assistant" and item["content"]:
            assert orjson.dumps(item["content"]).decode()[1:-1] in said
