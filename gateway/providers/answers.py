"""Reads whole answers, and turns them into streams and back where a host gives the other form."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from gateway.errors import ProviderError
from gateway.exact_json import exact
from gateway.nesting import is_too_deep
from gateway.providers.base import Completion
from gateway.providers.sse import (
    Tap,
    boundaries,
    decode,
    decode_leniently,
    decode_object,
    payload_of,
)
from gateway.types import Usage

_BEGINNINGS_OF_EVENTS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
_OF_COMPLETIONS: Final = ("id", "created", "model", "system_fingerprint", "service_tier")


def decode_answer(raw: bytes) -> Any:
    """Decode an answer; what a caller can have had written that is no JSON is replaced.

    Raises:
        ValueError: It is not JSON, has more objects and lists than any answer, or is nested too
            deeply to be passed on.
    """
    try:
        answer = exact(raw, decode(raw))
    except orjson.JSONDecodeError:
        answer = decode_leniently(raw)
    if is_too_deep(raw, answer):
        raise ValueError("nested too deeply")
    return answer


def is_stream(raw: bytes) -> bool:
    """Whether a body that should be JSON is an event stream."""
    return raw[:64].lstrip().startswith(_BEGINNINGS_OF_EVENTS)


def gathered(raw: bytes, tap: Tap) -> Completion:
    """Read an event stream as the whole answer that it tells.

    Args:
        tap: Of the host's dialect, unused.

    Raises:
        ProviderError: It tells of an error, or is not complete.
        ValueError: There is no answer in it.
    """
    events = tap.feed(raw) + tap.finish()
    if tap.error is not None:
        raise tap.error
    choices: dict[int, dict[str, Any]] = {}
    head: dict[str, Any] = {}
    for chunk in _chunks_in(events):
        head |= {name: chunk[name] for name in _OF_COMPLETIONS if chunk.get(name) is not None}
        for choice in chunk.get("choices") or ():
            _add(choices.setdefault(choice.get("index") or 0, {}), choice)
    if not choices:
        raise ValueError("no answer in the stream")
    body: dict[str, Any] = {
        **head,
        "object": "chat.completion",
        "choices": [
            {"index": index, "logprobs": None, "finish_reason": None, **choices[index]}
            for index in sorted(choices)
        ],
    }
    if tap.usage_event is not None:
        body["usage"] = tap.usage_event["usage"]
    return Completion(body, tap.usage, tap.finish_reason)


def _chunks_in(events: bytes) -> Iterable[dict[str, Any]]:
    start = 0
    for end in boundaries(events):
        chunk = decode_object(payload_of(events[start:end]))
        start = end
        if chunk is not None:
            yield chunk


def _add(whole: dict[str, Any], choice: Mapping[str, Any]) -> None:
    """Add one chunk's part of a choice to what came before."""
    message = whole.setdefault("message", {"role": "assistant", "content": None})
    for name, part in (choice.get("delta") or {}).items():
        if name == "tool_calls":
            for call in part or ():
                _add_call(message.setdefault("tool_calls", []), call)
        elif isinstance(part, str) and name != "role" and isinstance(message.get(name), str):
            message[name] += part
        elif part is not None:
            message[name] = part
    if isinstance(choice.get("finish_reason"), str):
        whole["finish_reason"] = choice["finish_reason"]
    logprobs = choice.get("logprobs")
    if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
        known = whole.setdefault("logprobs", {"content": []})
        known["content"] += logprobs["content"]


def _add_call(calls: list[dict[str, Any]], part: Mapping[str, Any]) -> None:
    index = part.get("index")
    place = index if isinstance(index, int) and 0 <= index <= len(calls) else len(calls)
    if place == len(calls):
        calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
    call, function = calls[place], part.get("function") or {}
    call["id"] = part.get("id") or call["id"]
    call["type"] = part.get("type") or call["type"]
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""


class WholeTap:
    """A tap (`gateway.providers.sse.Tap`) of a stream whose host gave a whole answer instead."""

    def __init__(self, completion: Completion) -> None:
        body = completion.body
        self.usage: Usage | None = completion.usage
        self.finish_reason = completion.finish_reason
        self.head: dict[str, Any] | None = {n: body.get(n) for n in ("id", "created", "model")}
        self.usage_event: dict[str, Any] | None = None
        if isinstance(body.get("usage"), dict):
            fields = {"choices": [], "usage": body["usage"]}
            self.usage_event = {**self.head, "object": "chat.completion.chunk", **fields}
        self.events = b"".join(self._written(choice) for choice in body["choices"])
        self.forwarded_events = 2 * len(body["choices"])
        self.is_done = True
        self.error: ProviderError | None = None

    def due(self, data: bytes) -> int:
        """Nothing follows."""
        del data
        return 0

    def feed(self, data: bytes) -> bytes:
        """Nothing follows."""
        del data
        return b""

    def finish(self) -> bytes:
        """Nothing follows."""
        return b""

    def _written(self, choice: Mapping[str, Any]) -> bytes:
        """Write one choice as two chunks: all that it says, and its end."""
        delta = dict(choice["message"])
        if isinstance(delta.get("tool_calls"), list):
            delta["tool_calls"] = [{"index": i, **c} for i, c in enumerate(delta["tool_calls"])]
        index = choice.get("index") or 0
        said = {"index": index, "delta": delta, "finish_reason": None}
        if choice.get("logprobs") is not None:
            said["logprobs"] = choice["logprobs"]
        end: dict[str, Any] = {
            "index": index,
            "delta": {},
            "finish_reason": choice.get("finish_reason"),
        }
        return self._chunk(said) + self._chunk(end)

    def _chunk(self, choice: Mapping[str, Any]) -> bytes:
        chunk = {**(self.head or {}), "object": "chat.completion.chunk", "choices": [choice]}
        return b"data: " + orjson.dumps(chunk) + b"\n\n"
