"""The three dialects of the scripted provider: what is asked in each, and how it is answered."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.clients.conversation import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    Asked,
    Reply,
    fields_of,
    text_of,
)

Json = dict[str, Any]
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a provider is asked, and how it answers: whole, in events, with an error."""

    read: Callable[[Json], Asked]
    whole: Callable[[Reply], Json]
    events: Callable[[Reply], Iterator[bytes]]
    error: Callable[[str, str], Json]


def pieces(text: str) -> list[str]:
    """Cut a text as a model writes it."""
    return re.findall(r"\S+\s*|\s+", text)


def event(payload: Json, name: str | None = None) -> bytes:
    """Write one server-sent event."""
    data = f"data: {json.dumps(payload)}\n\n"
    return (data if name is None else f"event: {name}\n{data}").encode()


# Chat completions


def read_chat(body: Json) -> Asked:
    messages = body["messages"]
    users = [m["content"] for m in messages if m["role"] == "user"]
    offered = [t[t["type"]] for t in body.get("tools") or () if t["type"] in t]
    choice = body.get("tool_choice")
    return Asked(
        "\n".join(map(text_of, users)),
        tuple(text_of(m["content"]) for m in messages if m["role"] == "tool"),
        sum(p["type"] == "image_url" for c in users if isinstance(c, list) for p in c),
        {tool["name"]: fields_of(tool.get("parameters")) for tool in offered},
        choice["function"]["name"] if isinstance(choice, dict) and "function" in choice else None,
        (body.get("response_format") or {}).get("type", "text") != "text",
    )


_CHAT_USAGE: Final = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}


def _chat_call(reply: Reply) -> Json:
    called = {"name": reply.tool, "arguments": reply.arguments}
    return {"id": f"call_{next(_numbers)}", "type": "function", "function": called}


def whole_chat(reply: Reply) -> Json:
    message: Json = {"role": "assistant", "content": reply.text}
    if reply.tool is not None:
        message = {"role": "assistant", "content": None, "tool_calls": [_chat_call(reply)]}
    finish = "stop" if reply.tool is None else "tool_calls"
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return _chat_object("chat.completion", [choice]) | {"usage": _CHAT_USAGE}


def _chat_object(kind: str, choices: list[Json]) -> Json:
    known = {"id": f"chatcmpl-{next(_numbers)}", "object": kind, "created": 1_790_000_000}
    return {**known, "model": "scripted", "choices": choices}


def chat_events(reply: Reply) -> Iterator[bytes]:
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    if reply.tool is None:
        deltas += [{"content": piece} for piece in pieces(reply.text)]
    else:
        call = _chat_call(reply)
        call["function"]["arguments"] = ""
        deltas.append({"tool_calls": [{"index": 0, **call}]})
        deltas += [
            {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
            for piece in pieces(reply.arguments)
        ]
    finish = "stop" if reply.tool is None else "tool_calls"
    for delta, reason in [*((d, None) for d in deltas), ({}, finish)]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        yield event(_chat_object("chat.completion.chunk", [choice]))
    yield event(_chat_object("chat.completion.chunk", []) | {"usage": _CHAT_USAGE})
    yield b"data: [DONE]\n\n"


def openai_error(message: str, code: str) -> Json:
    kind = "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


# Responses


def read_responses(body: Json) -> Asked:
    given = body["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    users = [item["content"] for item in items if item.get("role") == "user"]
    outputs = ("function_call_output", "custom_tool_call_output")
    choice = body.get("tool_choice")
    return Asked(
        "\n".join(map(text_of, users)),
        tuple(text_of(item["output"]) for item in items if item.get("type") in outputs),
        sum(p["type"] == "input_image" for c in users if isinstance(c, list) for p in c),
        {t["name"]: fields_of(t.get("parameters")) for t in body.get("tools") or () if "name" in t},
        choice.get("name") if isinstance(choice, dict) else None,
        ((body.get("text") or {}).get("format") or {}).get("type", "text") != "text",
    )


def _item(reply: Reply) -> Json:
    number = next(_numbers)
    if reply.tool is None:
        said = {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
        message = {"id": f"msg_{number}", "type": "message", "role": "assistant"}
        return {**message, "status": "completed", "content": [said]}
    call = {"id": f"fc_{number}", "type": "function_call", "call_id": f"call_{number}"}
    return {**call, "name": reply.tool, "arguments": reply.arguments, "status": "completed"}


def _response(items: list[Json], status: str = "completed") -> Json:
    usage = {
        "input_tokens": INPUT_TOKENS,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": OUTPUT_TOKENS,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }
    return {
        "id": f"resp_{next(_numbers)}",
        "object": "response",
        "created_at": 1_790_000_000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "scripted",
        "output": items,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if status == "completed" else None,
    }


def whole_response(reply: Reply) -> Json:
    return _response([_item(reply)])


def response_events(reply: Reply) -> Iterator[bytes]:
    item = _item(reply)
    begun: Json = {**item, "status": "in_progress"}
    unsaid: Json = {"content": []} if reply.tool is None else {"arguments": ""}
    begun |= unsaid
    opened = _response([], "in_progress")
    steps: list[tuple[str, Json]] = [
        ("created", {"response": opened}),
        ("in_progress", {"response": opened}),
        ("output_item.added", {"item": begun}),
        *_item_steps(item),
        ("output_item.done", {"item": item}),
        ("completed", {"response": _response([item]) | {"id": opened["id"]}}),
    ]
    for number, (kind, fields) in enumerate(steps):
        named = {"type": f"response.{kind}", "sequence_number": number, **fields}
        if kind.startswith(("output_", "content_", "function_")):
            named["output_index"] = 0
        yield event(named, named["type"])


def _item_steps(item: Json) -> list[tuple[str, Json]]:
    place = {"item_id": item["id"]}
    if item["type"] == "function_call":
        name, whole = "function_call_arguments", item["arguments"]
        done = place | {"arguments": whole, "name": item["name"]}
        return [
            *((f"{name}.delta", place | {"delta": piece}) for piece in pieces(whole)),
            (f"{name}.done", done),
        ]
    place["content_index"] = 0
    (part,) = item["content"]
    text = part["text"]
    return [
        ("content_part.added", place | {"part": part | {"text": ""}}),
        *(
            ("output_text.delta", place | {"delta": piece, "logprobs": []})
            for piece in pieces(text)
        ),
        ("output_text.done", place | {"text": text, "logprobs": []}),
        ("content_part.done", place | {"part": part}),
    ]


# Messages


def read_messages(body: Json) -> Asked:
    users = [m["content"] for m in body["messages"] if m["role"] == "user"]
    blocks = [b for content in users if isinstance(content, list) for b in content]
    choice = body.get("tool_choice") or {}
    formats = (body.get("output_format"), (body.get("output_config") or {}).get("format"))
    return Asked(
        "\n".join(map(text_of, users)),
        tuple(text_of(b.get("content")) for b in blocks if b["type"] == "tool_result"),
        sum(b["type"] == "image" for b in blocks),
        {t["name"]: fields_of(t.get("input_schema")) for t in body.get("tools") or ()},
        choice.get("name"),
        any(formats),
    )


def _block(reply: Reply) -> Json:
    if reply.tool is None:
        return {"type": "text", "text": reply.text}
    used = {"type": "tool_use", "id": f"toolu_{next(_numbers)}", "name": reply.tool}
    return {**used, "input": json.loads(reply.arguments)}


def whole_message(reply: Reply) -> Json:
    return {
        "id": f"msg_{next(_numbers)}",
        "type": "message",
        "role": "assistant",
        "model": "scripted",
        "content": [_block(reply)],
        "stop_reason": "end_turn" if reply.tool is None else "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS},
    }


def message_events(reply: Reply) -> Iterator[bytes]:
    whole = whole_message(reply)
    (block,) = whole["content"]
    if reply.tool is None:
        begun = block | {"text": ""}
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces(reply.text)]
    else:
        begun, kind = block | {"input": {}}, "input_json_delta"
        deltas = [{"type": kind, "partial_json": piece} for piece in pieces(reply.arguments)]
    opening: Json = {"content": [], "stop_reason": None}
    opening["usage"] = {"input_tokens": INPUT_TOKENS, "output_tokens": 1}
    ending = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    steps: list[tuple[str, Json]] = [
        ("message_start", {"message": whole | opening}),
        ("content_block_start", {"index": 0, "content_block": begun}),
        *(("content_block_delta", {"index": 0, "delta": delta}) for delta in deltas),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": ending, "usage": {"output_tokens": OUTPUT_TOKENS}}),
        ("message_stop", {}),
    ]
    for kind, fields in steps:
        yield event({"type": kind, **fields}, kind)


def anthropic_error(message: str, code: str) -> Json:
    del code
    return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


DIALECTS: Final = {
    "/chat/completions": Dialect(read_chat, whole_chat, chat_events, openai_error),
    "/responses": Dialect(read_responses, whole_response, response_events, openai_error),
    "/v1/messages": Dialect(read_messages, whole_message, message_events, anthropic_error),
}
"""By the end of the path."""
