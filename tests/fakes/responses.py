"""Requests of OpenAI's Responses as its SDKs, agents and Codex send them."""

from typing import Any

import orjson

PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather of a city.",
    "parameters": SCHEMA,
    "strict": False,
}
PATCH: dict[str, Any] = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}
FILES: dict[str, Any] = {
    "type": "namespace",
    "name": "mcp__files",
    "description": "Files.",
    "tools": [{"type": "function", "name": "read", "parameters": SCHEMA, "strict": None}],
}
HELLO: dict[str, Any] = {"model": "auto", "input": "Say hello."}
SESSION = "0b1c2d3e-1111-2222-3333-444455556666"
AGENT: dict[str, Any] = {
    "model": "auto",
    "instructions": "You are an agent.",
    "input": [
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "Ask before you write."}],
        },
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "<environment_context>\n/home"}],
        },
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is in the picture, and the weather?"},
                {"type": "input_image", "image_url": PIXEL, "detail": "auto"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "Look first."}],
            "encrypted_content": None,
        },
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "aGlkZGVu"},
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "status": "completed",
            "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "get_weather",
            "arguments": '{"city":"Oslo"}',
        },
        {"type": "custom_tool_call", "call_id": "call_2", "name": "apply_patch", "input": "+ a"},
        {
            "type": "function_call",
            "call_id": "call_3",
            "namespace": "mcp__files",
            "name": "read",
            "arguments": "{}",
        },
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": [
                {"type": "input_text", "text": "4 degrees"},
                {"type": "input_image", "image_url": PIXEL, "detail": "low"},
            ],
        },
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "Done."},
        {"type": "function_call_output", "call_id": "call_3", "output": "no such file"},
        {"type": "message", "role": "developer", "content": "You may write now."},
    ],
    "tools": [WEATHER, PATCH, FILES],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "text": {"verbosity": "low"},
    "include": ["reasoning.encrypted_content"],
    "store": False,
    "prompt_cache_key": SESSION,
    "metadata": {"job": "test"},
    "max_output_tokens": 2_000,
    "truncation": "disabled",
}


def events_of(wire: bytes) -> list[dict[str, Any]]:
    """Decode a stream: each event is named after its type, and they are numbered."""
    events = []
    for event in wire.split(b"\n\n")[:-1]:
        if event.startswith(b":"):
            continue
        name, _, data = event.partition(b"\ndata: ")
        events.append(orjson.loads(data))
        assert name == b"event: " + events[-1]["type"].encode()
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def response(text: str = "Hello!", **fields: Any) -> dict[str, Any]:
    """Build a whole response as OpenAI gives it."""
    said = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    message = {"id": "msg_0a", "type": "message", "role": "assistant", "status": "completed"}
    return {
        "id": "resp_0a",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "upstream-model",
        "output": [
            {"id": "rs_0a", "type": "reasoning", "summary": [], "encrypted_content": "aGlkZGVu"},
            message | {"content": [said]},
        ],
        "usage": {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": 1},
            "total_tokens": 12,
        },
        "x_host": {"unknown": True},
        **fields,
    }


def response_chunks(text: str = "Hello!", ending: str = "completed") -> list[bytes]:
    """Write a stream as OpenAI does, one event per letter of `text`, with an event it has not."""
    begun = response(status="in_progress", output=[], usage=None)
    place = {"item_id": "msg_0a", "output_index": 0, "content_index": 0}
    letters = [
        {"type": "response.output_text.delta", **place, "delta": letter, "logprobs": []}
        for letter in text
    ]
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.web_search_call.in_progress", "item_id": "ws_0a", "output_index": 0},
        *letters,
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": f"response.{ending}", "response": response(text, status=ending)},
    ]
    return [named(event | {"sequence_number": n}) for n, event in enumerate(events)]


def named(event: dict[str, Any]) -> bytes:
    """Write an event under its name."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))
