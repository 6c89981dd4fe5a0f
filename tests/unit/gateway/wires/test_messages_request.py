from typing import Any

import orjson
import pytest

from gateway.budgets.prompt_tokens import worst_prompt_tokens
from gateway.errors import InvalidRequest
from gateway.providers.fields import asked_fields
from gateway.types import CARRIED
from gateway.wire import ChatRequest
from gateway.wires.messages_request import parse_messages_request
from tests.fakes.messages import AGENT, HELLO, SESSION, WEATHER


def parsed(headers: dict[str, str] | None = None, **changes: Any) -> ChatRequest:
    encoded = {name.encode(): value.encode() for name, value in (headers or {}).items()}
    return parse_messages_request(orjson.dumps(HELLO | changes), encoded)


def said(*contents: Any, role: str = "user") -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for content in contents]


def test_the_query_is_what_the_user_said_last_without_results_and_reminders() -> None:
    request = parse_messages_request(orjson.dumps(AGENT), {})

    assert request.query == "What is in the picture, and the weather?"
    assert request.turn_index == 0


def test_turns_are_counted_by_what_the_user_said() -> None:
    messages = said("one", "two", [{"type": "tool_result", "tool_use_id": "a", "content": "4"}])

    assert parsed(messages=messages).turn_index == 1


@pytest.mark.parametrize(
    ("user_id", "user", "session"),
    [
        ("someone", "someone", None),
        (f"user_ab12_account_11-22_session_{SESSION}", "user_ab12_account_11-22", SESSION),
        (f'{{"device_id":"d1","account_uuid":"","session_id":"{SESSION}"}}', "d1", SESSION),
        ("{no json", "{no json", None),
        (None, None, None),
    ],
)
def test_the_user_and_the_session_are_read_from_the_metadata(user_id, user, session) -> None:
    request = parsed(metadata={"user_id": user_id})

    assert request.body.get("user") == user
    assert request.options.conversation_id == session


def test_the_name_of_a_user_is_no_longer_than_openai_takes_it() -> None:
    names = {parsed(metadata={"user_id": c * 300}).body["user"] for c in "ab"}

    assert {len(name) for name in names} == {64}


def test_what_a_caller_says_of_the_conversation_comes_before_what_its_client_says() -> None:
    told = {"x-claude-code-session-id": SESSION}

    assert parsed(told).options.conversation_id == SESSION
    named = parsed(told, waypost={"conversation_id": "mine"})
    assert named.options.conversation_id == "mine"
    assert "waypost" not in named.body
    assert named.native is not None
    assert "waypost" not in named.native.body


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_a_choice_of_tools_is_translated(choice, chosen) -> None:
    choice |= {"disable_parallel_tool_use": True}

    body = parsed(tools=[WEATHER], tool_choice=choice).body

    assert body["tool_choice"] == chosen
    assert body["parallel_tool_calls"] is False


def test_tools_may_be_called_side_by_side_unless_the_caller_forbids_it() -> None:
    body = parsed(tools=[WEATHER], tool_choice={"type": "auto"}).body

    assert "parallel_tool_calls" not in body


def test_without_tools_there_is_no_choice_of_them() -> None:
    assert parsed(tool_choice={"type": "auto"}).body.keys() == {"model", "max_tokens", "messages"}


@pytest.mark.parametrize(
    ("changes", "effort"),
    [
        ({}, None),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 8000}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 20_000}}, "high"),
        ({"output_config": {"effort": "max"}}, "high"),
    ],
)
def test_how_much_to_think_is_said_for_models_that_can_be_told(changes, effort) -> None:
    request = parsed(**changes)

    assert request.effort == effort
    assert request.body.keys() == {"model", "max_tokens", "messages"}


def test_a_schema_of_the_answer_is_a_response_format() -> None:
    wanted = {"type": "json_schema", "schema": {"type": "object"}}

    body = parsed(output_config={"format": wanted}).body

    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"speed": "fast"}, {"speed"}),
        ({"inference_geo": "us"}, {"inference_geo"}),
        ({"container": "c"}, {"container"}),
        ({"service_tier": "priority"}, {"service_tier"}),
        ({"service_tier": "auto", "cache_control": {"type": "ephemeral"}}, set()),
        ({"thinking": {"type": "enabled", "lane": "fast"}}, {"thinking.lane", "thinking.type"}),
        ({"output_config": {"effort": "low", "lane": 1}}, {"output_config"}),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, {"tools.web_search_20250305"}),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, {"tools.bash_20250124"}),
        ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, set()),
        ({"context_management": {"edits": [{"type": "compact_1"}]}}, {"context_management"}),
        ({"context_management": {"edits": [], "lane": 1}}, {"context_management"}),
    ],
)
def test_what_may_change_the_price_is_judged_by_its_own_name(changes, fields) -> None:
    asked = asked_fields(parsed(**changes).body)

    assert asked - {"model", "max_tokens", "messages"} == fields


@pytest.mark.parametrize(
    "block",
    [
        {"type": "thinking", "thinking": "x" * 5000, "signature": "s"},
        {"type": "redacted_thinking", "data": "x" * 5000},
        {"type": "server_tool_use", "id": "a", "name": "w", "input": {"query": "x" * 5000}},
        {"type": "text", "text": "", "citations": [{"cited_text": "x" * 5000}]},
        {"type": "tool_use", "id": "a", "name": "f", "input": {}, "caller": {"type": "x" * 5000}},
        {"type": "never_seen", "anything": ["x" * 5000]},
    ],
)
def test_what_only_anthropic_is_sent_counts_as_prompt_too(block) -> None:
    request = parsed(messages=[*said("hi"), *said([block], role="assistant")])

    assert worst_prompt_tokens(request.body) > 5000


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "x", "y": "x" * 5000}]},
        {"type": "container_upload", "file_id": "x" * 5000},
        {"type": "search_result", "title": "x" * 5000, "source": "s", "content": []},
        {"type": "document", "source": {"type": "text", "data": "x" * 5000}},
    ],
)
def test_what_a_user_shows_only_to_anthropic_counts_as_prompt_too(block) -> None:
    assert worst_prompt_tokens(parsed(messages=said([block])).body) > 5000


def test_examples_of_a_tool_count_as_prompt_too() -> None:
    tool = WEATHER | {"input_examples": [{"city": "x" * 5000}]}

    body = parsed(tools=[tool]).body

    assert worst_prompt_tokens(body) > 5000
    assert CARRIED in body["tools"][0]


@pytest.mark.parametrize(
    ("source", "part"),
    [
        (
            {"type": "url", "url": "https://a.example/b.png"},
            {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
        ),
        ({"type": "file", "file_id": "f1"}, {"type": "file", "file": {"file_id": "f1"}}),
    ],
)
def test_pictures_are_translated(source, part) -> None:
    block = {"type": "image", "source": source}

    assert parsed(messages=said([block])).body["messages"][0]["content"] == [part]


def test_documents_are_translated() -> None:
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    inner = {"type": "content", "content": [{"type": "text", "text": "inside"}]}
    blocks = [
        {"type": "document", "source": pdf, "title": "report.pdf"},
        {"type": "document", "source": {"type": "text", "data": "plain"}, "context": "Notes"},
        {"type": "document", "source": inner},
        {"type": "document", "source": {"type": "content", "content": "as text"}},
        {"type": "document", "source": {"type": "url", "url": "https://a.example/b.pdf"}},
        {"type": "document", "source": {"type": "file", "file_id": "f1"}},
    ]

    parts = parsed(messages=said(blocks)).body["messages"][0]["content"]

    data = "data:application/pdf;base64,JVBERi0="
    assert parts == [
        {"type": "text", "text": "report.pdf"},
        {"type": "file", "file": {"file_data": data, "filename": "report.pdf"}},
        {"type": "text", "text": "Notes\nplain"},
        {"type": "text", "text": "inside"},
        {"type": "text", "text": "as text"},
        {
            "type": "file",
            "file": {"file_data": "https://a.example/b.pdf", "filename": "document.pdf"},
        },
        {"type": "file", "file": {"file_id": "f1"}},
    ]


def test_a_result_that_is_a_picture_alone_says_where_it_is() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}
    block = {"type": "tool_result", "tool_use_id": "a", "content": [image]}

    tool, user = parsed(messages=said([block])).body["messages"]

    assert tool["content"]
    assert user["content"][0]["type"] == "image_url"


def test_an_instruction_amid_a_conversation_reminds_in_the_users_turn() -> None:
    result = [{"type": "tool_result", "tool_use_id": "a", "content": "4"}]
    rule = {"role": "system", "content": "New rule."}
    messages = [rule, *said("hi"), rule, *said(result), rule]
    listed = [*said([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), rule]

    roles = [message["role"] for message in parsed(messages=messages).body["messages"]]
    content = parsed(messages=listed).body["messages"][0]["content"]

    assert roles == ["system", "user", "tool", "user"]
    assert [part["text"].splitlines()[0] for part in content] == ["a", "b", "<system-reminder>"]


def test_instructions_that_follow_each_other_are_one_reminder_after_the_other() -> None:
    rules = [
        {"role": "system", "content": [{"type": "text", "text": "1", "extra": 1}]},
        {"role": "user", "content": []},
        {"role": "system", "content": "2"},
    ]

    (message,) = parsed(messages=[*said("hi"), *rules]).body["messages"]
    (alone,) = parsed(messages=[{"role": "user", "content": []}, *rules]).body["messages"]

    told = [f"<system-reminder>\n{text}\n</system-reminder>" for text in "12"]
    assert message["content"] == "\n\n".join(["hi", *told])
    assert alone["content"] == "\n\n".join(told)
    assert alone["role"] == "user"
    assert message[CARRIED] == alone[CARRIED] == [{"extra": 1}]


def test_a_user_s_name_that_is_nested_deeply_is_a_name() -> None:
    named = {parsed(metadata={"user_id": deep(n)}).body["user"] for n in (190, 210, 1_010, 9_000)}
    assert len(named) == 4


def deep(levels: int) -> str:
    return '{"a":' + "[" * levels + "]" * levels + "}"


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"messages": "hi"}, "messages"),
        ({"messages": [5]}, "messages.0"),
        ({"messages": [{"role": "user"}]}, "messages.0"),
        ({"messages": said("hi", role="tool")}, "messages.0"),
        ({"messages": said([{"text": "hi"}])}, "messages.0"),
        ({"messages": said([{"type": "text", "text": 5}])}, "messages.0"),
        ({"messages": said([{"type": "image", "source": {"type": "odd"}}])}, "messages.0"),
        (
            {
                "messages": said(
                    [{"type": "tool_use", "id": "a", "name": "f", "input": 5}], role="assistant"
                )
            },
            "messages.0",
        ),
        ({"system": 5}, "system"),
        ({"system": [{"type": "text"}]}, "system"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"tools": 5}, "tools"),
        ({"tools": [5]}, "tools.0"),
        ({"tools": [{"name": "f"}]}, "tools.0"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": "auto"}, "tool_choice"),
        ({"thinking": "much"}, "thinking"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config"),
    ],
)
def test_what_is_malformed_is_refused_and_named(changes, where) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(**changes)

    assert refused.value.param == where
    assert where in refused.value.message
