"""Translates Anthropic's event stream to OpenAI's, event by event.

https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.providers.anthropic_wire import finish_reason_of, usage_of, usage_to_openai
from gateway.providers.event_tap import EventTap
from gateway.providers.failures import stream_error
from gateway.providers.sse import decode_object, payload_of

_KEEPALIVE = b": ping\n\n"


class AnthropicTap(EventTap):
    """A tap that writes each of Anthropic's events anew.

    Args:
        created: Unix seconds put into every chunk; Anthropic sends no time.
    """

    def __init__(self, provider: str, created: int) -> None:
        super().__init__(provider)
        self._created = created
        self._reported: dict[str, Any] = {}
        self._call_of_block: dict[int, int] = {}
        self._calls_with_arguments: set[int] = set()

    def _forwarded(self, event: bytes) -> bytes:
        """Return OpenAI's form of `event`."""
        return self._translate(event)

    def _translate(self, event: bytes) -> bytes:
        payload = payload_of(event)
        message = decode_object(payload) if payload else None
        if message is None:
            return b""
        kind = message.get("type")
        try:
            if kind == "content_block_delta":
                return self._delta(message["index"], message["delta"])
            if kind == "content_block_start":
                return self._block(message["index"], message["content_block"])
            return self._milestone(kind, message)
        except (KeyError, TypeError, AttributeError):
            self.error = stream_error({"message": "a malformed event", "code": 502}, self._provider)
            return b""

    def _milestone(self, kind: object, message: Mapping[str, Any]) -> bytes:
        """Translate what happens once or a few times in a stream."""
        if kind == "message_start":
            return self._begin(message["message"])
        if kind == "content_block_stop":
            return self._end_of_block(message["index"])
        if kind == "message_delta":
            return self._end_of_message(message)
        if kind == "message_stop":
            self._end()
        elif kind == "error":
            self.error = stream_error(message.get("error"), self._provider)
        return _KEEPALIVE if kind == "ping" else b""

    def _begin(self, message: Mapping[str, Any]) -> bytes:
        self.head = {
            "id": message.get("id"),
            "created": self._created,
            "model": message.get("model"),
        }
        # Its count of the answer is a placeholder; that of the prompt is final.
        self._note_usage(message.get("usage"), placeholder="output_tokens")
        return self._chunk({"role": "assistant", "content": ""})

    def _block(self, index: int, block: Mapping[str, Any]) -> bytes:
        kind = block["type"]
        if kind == "text" and block.get("text"):
            return self._chunk({"content": block["text"]})
        if kind != "tool_use":
            return b""
        call = self._call_of_block[index] = len(self._call_of_block)
        function = {"name": block["name"], "arguments": ""}
        opening = {"index": call, "id": block["id"], "type": "function", "function": function}
        begun = self._chunk({"tool_calls": [opening]})
        given = block.get("input")
        return begun + self._arguments(index, orjson.dumps(given).decode()) if given else begun

    def _delta(self, index: int, delta: Mapping[str, Any]) -> bytes:
        kind = delta["type"]
        if kind == "text_delta":
            return self._chunk({"content": delta["text"]})
        if kind == "thinking_delta" and delta["thinking"]:
            return self._chunk({"reasoning_content": delta["thinking"]})
        if kind == "input_json_delta" and delta["partial_json"] and index in self._call_of_block:
            return self._arguments(index, delta["partial_json"])
        return b""

    def _arguments(self, index: int, text: str) -> bytes:
        self._calls_with_arguments.add(index)
        more = {"index": self._call_of_block[index], "function": {"arguments": text}}
        return self._chunk({"tool_calls": [more]})

    def _end_of_block(self, index: int) -> bytes:
        """Give a call without input the empty object that parsers of arguments expect."""
        is_bare = index in self._call_of_block and index not in self._calls_with_arguments
        return self._arguments(index, "{}") if is_bare else b""

    def _end_of_message(self, message: Mapping[str, Any]) -> bytes:
        self._note_usage(message.get("usage"))
        reason = finish_reason_of(message["delta"].get("stop_reason"))
        if reason is None:
            return b""
        self.finish_reason = reason
        return self._chunk({}, reason)

    def _note_usage(self, reported: object, placeholder: str = "") -> None:
        """Keep the highest of each count: later events repeat some of them, cumulatively."""
        if not isinstance(reported, dict):
            return
        final = {name: value for name, value in reported.items() if name != placeholder}
        self._reported = _highest(self._reported, final)
        self.usage = usage_of(self._reported)

    def _end(self) -> None:
        super()._end()
        if self.usage is not None:
            fields = {"choices": [], "usage": usage_to_openai(self.usage)}
            self.usage_event = self._envelope() | fields

    def _envelope(self) -> dict[str, Any]:
        head = self.head or {"id": None, "created": self._created, "model": None}
        return {"id": head["id"], "object": "chat.completion.chunk"} | head

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return b"data: " + orjson.dumps(self._envelope() | {"choices": [choice]}) + b"\n\n"


class NativeAnthropicTap(AnthropicTap):
    """Notes what passes by, and forwards the events as they came, to callers who speak Anthropic's.

    `message_stop` is withheld, for the service to write once the answer is charged.
    """

    is_native = True

    def _forwarded(self, event: bytes) -> bytes:
        self._translate(event)
        return b"" if self.error or self.is_done else event


def _highest(known: Mapping[str, Any], reported: Mapping[str, Any]) -> dict[str, Any]:
    """Join two reports: of each count the higher one, also of those one level further down."""
    joined = dict(known)
    for name, value in reported.items():
        before = known.get(name)
        if isinstance(value, dict):
            parts = {part: count for part, count in value.items() if type(count) is int}
            joined[name] = _highest(before if isinstance(before, dict) else {}, parts)
        elif type(value) is int and not (isinstance(before, dict) or value < (before or 0)):
            joined[name] = value
    return joined
