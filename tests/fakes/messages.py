"""Requests of Anthropic's Messages as its SDKs and Claude Code send them."""

from typing import Any

import orjson

VERSION = {"anthropic-version": "2023-06-01"}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "Weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
HELLO: dict[str, Any] = {
    "model": "auto",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Say hello."}],
}
SESSION = "0b1c2d3e-1111-2222-3333-444455556666"
AGENT: dict[str, Any] = {
    "model": "auto",
    "max_tokens": 32_000,
    "system": [
        {"type": "text", "text": "You are an agent."},
        {"type": "text", "text": "Rules.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>\nBe brief.\n</system-reminder>"},
                {"type": "text", "text": "What is in the picture, and the weather?"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Look first.", "signature": "c2lnbmVk"},
                {"type": "redacted_thinking", "data": "aGlkZGVu"},
                {"type": "text", "text": "I look."},
                {
                    "type": "tool_use",
                    "id": "toolu_1",
                    "name": "get_weather",
                    "input": {"city": "Oslo"},
                },
                {"type": "tool_use", "id": "toolu_2", "name": "get_weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [
                        {"type": "text", "text": "4 degrees"},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                        },
                    ],
                    "cache_control": {"type": "ephemeral"},
                },
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_2",
                    "content": "no city",
                    "is_error": True,
                },
            ],
        },
    ],
    "tools": [WEATHER | {"input_examples": [{"city": "Rome"}], "eager_input_streaming": True}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 16_384},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "metadata": {"user_id": orjson.dumps({"device_id": "d1", "session_id": SESSION}).decode()},
    "stop_sequences": ["END"],
}


def events_of(wire: bytes) -> list[dict[str, Any]]:
    """Decode a stream, in which each event has to be named after its type."""
    events = []
    for event in wire.split(b"\n\n")[:-1]:
        name, _, data = event.partition(b"\ndata: ")
        events.append(orjson.loads(data))
        assert name == b"event: " + events[-1]["type"].encode()
    return events
