"""The scripted provider of the benchmark of clients plays what a prompt says, in every dialect."""

from typing import Any

import orjson
import pytest

from benchmarks.clients.conversation import PLAIN, REFUSAL
from benchmarks.clients.report import tables
from benchmarks.clients.upstream import REASONING, answer

CALL = 'Look it up. <<call get_weather {"city":"Oslo"}>>'
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def chat(text: str, *more: Any) -> tuple[str, dict[str, Any]]:
    function = {"name": "get_weather", "parameters": SCHEMA}
    messages = [{"role": "user", "content": text}, *more]
    tools = [{"type": "function", "function": function}]
    return "/chat/chat/completions", {"messages": messages, "tools": tools}


def responses(text: str) -> tuple[str, dict[str, Any]]:
    tools = [{"type": "function", "name": "get_weather", "parameters": SCHEMA}]
    return "/responses", {"input": text, "tools": tools}


def messages(text: str) -> tuple[str, dict[str, Any]]:
    tools = [{"name": "get_weather", "input_schema": SCHEMA}]
    return "/v1/messages", {"messages": [{"role": "user", "content": text}], "tools": tools}


DIALECTS = pytest.mark.parametrize("dialect", [chat, responses, messages])


@DIALECTS
def test_a_tool_is_called_whole_and_in_a_stream(dialect) -> None:
    path, body = dialect(CALL)

    for asked in (body, body | {"stream": True}):
        status, _, pieces = answer(path, asked)
        assert status == 200
        assert b"get_weather" in b"".join(pieces)
        assert b"Oslo" in b"".join(pieces)


@DIALECTS
def test_any_other_prompt_is_answered_and_a_refusal_is_an_error(dialect) -> None:
    assert PLAIN.encode() in b"".join(answer(*dialect("Where?"))[2])
    status, _, pieces = answer(*dialect("<<refuse>>"))
    assert (status, REFUSAL.encode() in pieces[0]) == (400, True)


def test_the_answer_after_a_tool_quotes_its_result() -> None:
    result = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}

    (raw,) = answer(*chat(CALL, result))[2]

    assert orjson.loads(raw)["choices"][0]["message"]["content"] == "Done: sunny"


def test_the_reasoning_model_refuses_what_the_real_one_does() -> None:
    path, body = chat("Where?")

    assert answer(path, body | {"model": REASONING, "temperature": 0})[0] == 400


def test_the_tables_count_what_works_and_name_what_does_not() -> None:
    modes = {"chat": {"plain": {"auto": "ok", "chat": "ok"}, "tools": {"auto": "x", "chat": "ok"}}}

    written = tables({"one": {"version": "1", "date": "2026-11-30", "modes": modes}})

    assert "| one | 1 | 2026-11-30 | chat | 2/2 |  | 1/2 |" in written
    assert "- one, chat: tools (auto)" in written
