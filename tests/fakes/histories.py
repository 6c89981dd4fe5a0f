"""Conversations as they come about where models change, and how each wire of callers says them."""

from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from hypothesis import strategies as st

from gateway.wire import ChatRequest, parse_chat_request
from gateway.wires.messages_request import parse_messages_request
from gateway.wires.responses_request import parse_responses_request

PIXEL: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
PICTURE: Final = f"data:image/png;base64,{PIXEL}"
PDF: Final = "JVBERi0xLjQK"
TOOL: Final = "get_weather"
SCHEMA: Final = {"type": "object", "properties": {"city": {"type": "string"}}}
IDS: Final = ("functions.get_weather:0", "call_" + "x" * 60, "é à", "gemini|1/2==", "a" * 9, "c-1")
"""As hosts give them."""
BLANKS: Final = ("", " ", "\n\t")

letters = st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="<")
words = st.text(letters, min_size=1, max_size=8)
texts = words | st.sampled_from(BLANKS) | words.map(lambda word: f"{word} \n")
inputs = st.dictionaries(words, words | st.integers(0, 9), max_size=2)


@dataclass(frozen=True)
class Call:
    """A call of a tool and its result; `picture` says that the result has one."""

    id: str
    input: dict[str, Any]
    result: str
    picture: bool = False


@dataclass(frozen=True)
class Turn:
    """What a user says, and a model after it.

    Attributes:
        asked: Texts, and the marks ``<picture>`` and ``<document>``.
        reminder: Of an operator, after what the user said.
        thought: Text and signature; no signature where no Claude model wrote it.
        said: The model's texts; None where it has not answered yet.
    """

    asked: list[str] = field(default_factory=list)
    reminder: str | None = None
    thought: tuple[str, str] | None = None
    said: list[str] | None = None
    calls: list[Call] = field(default_factory=list)


@dataclass(frozen=True)
class History:
    """A conversation.

    Attributes:
        greeting: Of the model, before the user says anything.
        counts_anew: The same ids name calls of several turns, as hosts do that count in an answer.
    """

    system: str
    turns: list[Turn]
    greeting: str | None = None
    counts_anew: bool = False


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Conversations that wait for a model's answer: to a user, to results of tools, or begun."""
    turns, place = [], 0
    greets, counts_anew = draw(st.booleans()), draw(st.booleans())
    for n in range(draw(st.integers(1, 4))):
        place = 0 if counts_anew else place
        asked = draw(st.lists(texts | st.sampled_from(["<picture>", "<document>"]), max_size=3))
        if n == 0:
            asked.append(draw(words))  # somebody has to say something
        calls = []
        for given, result in draw(st.lists(st.tuples(inputs, texts), max_size=2)):
            name = IDS[place % len(IDS)] if draw(st.booleans()) else f"{IDS[0]}{place}"
            calls.append(Call(name, given, result, draw(st.booleans())))
            place += 1
        signature = draw(st.sampled_from(["", "c2lnbmVk"]))
        thought = (draw(words), signature) if draw(st.booleans()) else None
        said = draw(st.lists(texts, max_size=2))
        reminder = draw(st.none() | words)
        turns.append(Turn(asked, reminder, thought, said, calls))
    if draw(st.booleans()):
        turns.append(Turn([draw(words)]))
    return History(draw(texts), turns, draw(words) if greets else None, counts_anew=counts_anew)


def is_begun(history: History) -> bool:
    """Whether the conversation ends with a model's words, which the answer goes on with."""
    last = history.turns[-1]
    return last.said is not None and not last.calls


def as_chat(history: History, **fields: Any) -> ChatRequest:
    """Say a conversation in chat completions."""
    sent: list[dict[str, Any]] = [{"role": "developer", "content": history.system}]
    if history.greeting:
        sent.append({"role": "assistant", "content": history.greeting})
    for turn in history.turns:
        if turn.asked:
            sent.append({"role": "user", "content": [_chat_part(part) for part in turn.asked]})
        if turn.reminder:
            sent.append({"role": "system", "content": turn.reminder})
        if turn.said is None:
            continue
        message: dict[str, Any] = {"role": "assistant", "content": "".join(turn.said)}
        if turn.thought:
            message["reasoning_content"] = turn.thought[0]
        if turn.calls:
            message["tool_calls"] = [_chat_call(call) for call in turn.calls]
        sent.append(message)
        sent += [
            {"role": "tool", "tool_call_id": call.id, "content": call.result} for call in turn.calls
        ]
    function = {"name": TOOL, "parameters": SCHEMA}
    body = {"messages": sent, "tools": [{"type": "function", "function": function}], **fields}
    return parse_chat_request(orjson.dumps({"model": "auto", **body}), {})


def _chat_part(part: str) -> dict[str, Any]:
    if part == "<picture>":
        return {"type": "image_url", "image_url": {"url": PICTURE}}
    if part == "<document>":
        data = f"data:application/pdf;base64,{PDF}"
        return {"type": "file", "file": {"file_data": data, "filename": "a.pdf"}}
    return {"type": "text", "text": part}


def _chat_call(call: Call) -> dict[str, Any]:
    function = {"name": TOOL, "arguments": orjson.dumps(call.input).decode()}
    return {"id": call.id, "type": "function", "function": function}


def as_messages(history: History, **fields: Any) -> ChatRequest:
    """Say a conversation in Messages; what Anthropic refuses of any caller is left out."""
    sent: list[dict[str, Any]] = []
    for n, turn in enumerate(history.turns):
        asked = [_block(part) for part in turn.asked if part.strip()]
        if turn.reminder:
            asked.append({"type": "text", "text": turn.reminder})
        _speak(sent, "user", asked)
        if turn.said is None:
            continue
        said: list[dict[str, Any]] = [
            {"type": "text", "text": text.rstrip()} for text in turn.said if text.strip()
        ]
        if turn.thought:
            thought, signature = turn.thought
            said.insert(0, {"type": "thinking", "thinking": thought, "signature": signature})
        said += [
            {"type": "tool_use", "id": f"{n}{_tool_id(call.id)}", "name": TOOL, "input": call.input}
            for call in turn.calls
        ]
        _speak(sent, "assistant", said)
        _speak(sent, "user", [_result(call, f"{n}{_tool_id(call.id)}") for call in turn.calls])
    system = [{"type": "text", "text": history.system}] if history.system.strip() else ""
    tools = [{"name": TOOL, "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}}]
    body = {"model": "auto", "max_tokens": 9, "messages": sent, "tools": tools, **fields}
    return parse_messages_request(orjson.dumps({**body, "system": system}), {})


def _speak(sent: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    if blocks and sent and sent[-1]["role"] == role:
        sent[-1]["content"] += blocks
    elif blocks:
        sent.append({"role": role, "content": blocks})


def _tool_id(given: str) -> str:
    """Write an id as a client of Anthropic's has it: it was given in these letters."""
    return "".join(sign if sign.isascii() and sign.isalnum() else "_" for sign in given)


def _block(part: str) -> dict[str, Any]:
    if part == "<picture>":
        source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        return {"type": "image", "source": source}
    if part == "<document>":
        source = {"type": "base64", "media_type": "application/pdf", "data": PDF}
        return {"type": "document", "source": source}
    return {"type": "text", "text": part}


def _result(call: Call, name: str) -> dict[str, Any]:
    content: Any = call.result if call.result.strip() else ""
    if call.picture:
        content = [_block(part) for part in (call.result, "<picture>") if part.strip()]
    return {"type": "tool_result", "tool_use_id": name, "content": content}


def as_responses(history: History, **fields: Any) -> ChatRequest:
    """Say a conversation in Responses."""
    sent: list[dict[str, Any]] = []
    if history.greeting:
        sent.append({"role": "assistant", "content": history.greeting})
    for turn in history.turns:
        if turn.asked:
            sent.append({"role": "user", "content": [_input(part) for part in turn.asked]})
        if turn.reminder:
            sent.append({"role": "developer", "content": turn.reminder})
        if turn.said is None:
            continue
        if turn.thought:
            thought, sealed = turn.thought
            summary = [{"type": "summary_text", "text": thought}]
            own = {"id": f"rs_{len(sent)}", "summary": summary}
            sent.append({"type": "reasoning", **own, "encrypted_content": sealed or None})
        sent += [{"role": "assistant", "content": text} for text in turn.said]
        for call in turn.calls:
            made = {"name": TOOL, "arguments": orjson.dumps(call.input).decode()}
            sent.append({"type": "function_call", "call_id": call.id, **made})
        for call in turn.calls:
            parts = [_input(part) for part in (call.result, "<picture>")]
            output: Any = parts if call.picture else call.result
            sent.append({"type": "function_call_output", "call_id": call.id, "output": output})
    tool = {"type": "function", "name": TOOL, "parameters": SCHEMA, "strict": False}
    body = {"model": "auto", "instructions": history.system, "input": sent, "tools": [tool]}
    return parse_responses_request(orjson.dumps({**body, **fields}), {})


def _input(part: str) -> dict[str, Any]:
    if part == "<picture>":
        return {"type": "input_image", "image_url": PICTURE, "detail": "auto"}
    if part == "<document>":
        data = f"data:application/pdf;base64,{PDF}"
        return {"type": "input_file", "file_data": data, "filename": "a.pdf"}
    return {"type": "input_text", "text": part}
