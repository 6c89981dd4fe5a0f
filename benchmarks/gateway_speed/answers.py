"""The canned answers of the upstreams: one JSON body and one stream of 20 chunks.

Answers of Messages and of Responses say the same, in as many pieces.
"""

import json
from typing import Any

CHUNKS = 20
TEXT = "There are 46 left: 120 bought, less 12 sold on each of the six days, and two given away now"
WORDS = TEXT.split()
MODEL = "answers-1"
USAGE = {"prompt_tokens": 66, "completion_tokens": CHUNKS, "total_tokens": 66 + CHUNKS}


def json_answer() -> bytes:
    """Write a whole chat completion."""
    return json.dumps(
        {
            "id": "chatcmpl-9f86d081884c7d659a2feaa0c55ad015",
            "object": "chat.completion",
            "created": 1760000000,
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": " ".join(WORDS), "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": USAGE,
            "service_tier": "default",
            "system_fingerprint": "fp_44709d6fcb",
        }
    ).encode()


def stream_events() -> list[bytes]:
    """Write the events of a streamed chat completion: 20 chunks, then usage, then the end."""
    events = [_event([_choice({"role": "assistant", "content": ""}, None)])]
    events += [_event([_choice({"content": f" {word}"}, None)]) for word in WORDS[: CHUNKS - 2]]
    events.append(_event([_choice({}, "stop")]))
    assert len(events) == CHUNKS
    return [*events, _event([], USAGE), b"data: [DONE]\n\n"]


def message_answer() -> bytes:
    """Write a whole answer of Anthropic's Messages."""
    return json.dumps(_message([{"type": "text", "text": " ".join(WORDS)}], "end_turn")).encode()


def message_events() -> list[bytes]:
    """Write the same as a stream."""
    block: dict[str, Any] = {"index": 0, "content_block": {"type": "text", "text": ""}}
    ending = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        _named("message_start", message=_message([], None)),
        _named("content_block_start", **block),
        *(
            _named("content_block_delta", index=0, delta={"type": "text_delta", "text": f" {word}"})
            for word in WORDS[: CHUNKS - 2]
        ),
        _named("content_block_stop", index=0),
        _named("message_delta", delta=ending, usage={"output_tokens": CHUNKS}),
        _named("message_stop"),
    ]


def _message(content: list[Any], stop_reason: str | None) -> dict[str, Any]:
    return {
        "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 66, "output_tokens": CHUNKS},
    }


def response_answer() -> bytes:
    """Write a whole answer of OpenAI's Responses."""
    return json.dumps(_response([_item(" ".join(WORDS))], "completed")).encode()


def response_events() -> list[bytes]:
    """Write the same as a stream."""
    text = "".join(f" {word}" for word in WORDS[: CHUNKS - 2])
    place = {"item_id": "msg_67ccd2bf17f0819081ff3bb2cf6508e6", "output_index": 0}
    place_of_part: dict[str, Any] = {**place, "content_index": 0}
    events: list[tuple[str, dict[str, Any]]] = [
        ("created", {"response": _response([], "in_progress")}),
        ("in_progress", {"response": _response([], "in_progress")}),
        ("output_item.added", {"output_index": 0, "item": _item(None)}),
        ("content_part.added", {**place_of_part, "part": _part("")}),
        *(
            ("output_text.delta", {**place_of_part, "delta": f" {word}", "logprobs": []})
            for word in WORDS[: CHUNKS - 2]
        ),
        ("output_text.done", {**place_of_part, "text": text, "logprobs": []}),
        ("content_part.done", {**place_of_part, "part": _part(text)}),
        ("output_item.done", {"output_index": 0, "item": _item(text)}),
        ("completed", {"response": _response([_item(text)], "completed")}),
    ]
    return [
        _named(f"response.{kind}", sequence_number=number, **fields)
        for number, (kind, fields) in enumerate(events)
    ]


def _response(output: list[Any], status: str) -> dict[str, Any]:
    usage = {
        "input_tokens": 66,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": CHUNKS,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 66 + CHUNKS,
    }
    return {
        "id": "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b",
        "object": "response",
        "created_at": 1760000000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": 256,
        "model": MODEL,
        "output": output,
        "parallel_tool_calls": True,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage if status == "completed" else None,
        "metadata": {},
    }


def _item(text: str | None) -> dict[str, Any]:
    return {
        "id": "msg_67ccd2bf17f0819081ff3bb2cf6508e6",
        "type": "message",
        "role": "assistant",
        "status": "in_progress" if text is None else "completed",
        "content": [] if text is None else [_part(text)],
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _named(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields}, separators=(",", ":")).encode()
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _choice(delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}


def _event(choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> bytes:
    chunk = {
        "id": "chatcmpl-9f86d081884c7d659a2feaa0c55ad015",
        "object": "chat.completion.chunk",
        "created": 1760000000,
        "model": MODEL,
        "choices": choices,
        "usage": usage,
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"
