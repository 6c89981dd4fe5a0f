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

MAX_GATHERED_BYTES: Final = 8 * 1024 * 1024
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
        ValueError: There is no answer in it, or it is too long.
    """
    if len(raw) > MAX_GATHERED_BYTES:
        raise ValueError("too long a stream")
    events = tap.feed(raw) + tap.finish()
    if tap.error is not None:
        raise tap.error
    choices: dict[int, _Choice] = {}
    head: dict[str, Any] = {}
    for chunk in _chunks_in(events):
        head |= {name: chunk[name] for name in _OF_COMPLETIONS if chunk.get(name) is not None}
        for part in chunk.get("choices") or ():
            index = part.get("index") or 0
            choices.setdefault(index, _Choice(index)).add(part)
    if not choices:
        raise ValueError("no answer in the stream")
    whole = [choices[index].whole() for index in sorted(choices)]
    body: dict[str, Any] = {**head, "object": "chat.completion", "choices": whole}
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


class _Choice:
    """One choice, put together from its chunks."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._texts: dict[str, list[str]] = {}
        self._others: dict[str, Any] = {"role": "assistant", "content": None}
        self._calls: list[_Call] = []
        self._logprobs: list[Any] = []
        self._finish_reason: str | None = None

    def add(self, part: Mapping[str, Any]) -> None:
        """Add what one chunk says of it."""
        for name, value in (part.get("delta") or {}).items():
            if name == "tool_calls":
                for call in value or ():
                    self._call(call).add(call)
            elif isinstance(value, str) and name != "role":
                self._texts.setdefault(name, []).append(value)
            elif value is not None:
                self._others[name] = value
        if isinstance(part.get("finish_reason"), str):
            self._finish_reason = part["finish_reason"]
        logprobs = part.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            self._logprobs += logprobs["content"]

    def whole(self) -> dict[str, Any]:
        """Return it as it stands in a whole answer."""
        message = self._others | {name: "".join(parts) for name, parts in self._texts.items()}
        if self._calls:
            message["tool_calls"] = [call.whole() for call in self._calls]
        return {
            "index": self._index,
            "message": message,
            "logprobs": {"content": self._logprobs} if self._logprobs else None,
            "finish_reason": self._finish_reason,
        }

    def _call(self, part: Mapping[str, Any]) -> "_Call":
        index = part.get("index")
        if isinstance(index, int) and 0 <= index < len(self._calls):
            return self._calls[index]
        self._calls.append(_Call())
        return self._calls[-1]


class _Call:
    """One call of a tool."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {"id": None, "type": "function"}
        self._names: list[str] = []
        self._arguments: list[str] = []

    def add(self, part: Mapping[str, Any]) -> None:
        """Add what one chunk says of it."""
        function = part.get("function") or {}
        self._fields |= {name: part[name] for name in ("id", "type") if part.get(name)}
        self._names.append(function.get("name") or "")
        self._arguments.append(function.get("arguments") or "")

    def whole(self) -> dict[str, Any]:
        """Return it as it stands in a whole answer."""
        function = {"name": "".join(self._names), "arguments": "".join(self._arguments)}
        return {**self._fields, "function": function}


class WholeTap:
    """A tap (`gateway.providers.sse.Tap`) of a stream whose host gave a whole answer instead."""

    is_native = False
    is_finished = True

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
