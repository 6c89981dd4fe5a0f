"""The canned answers of the upstreams: one JSON body and one stream of 20 chunks."""

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
