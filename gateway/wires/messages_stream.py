"""Writes a streamed answer as the events of Anthropic's Messages.

https://platform.claude.com/docs/en/build-with-claude/streaming

Blocks follow each other and each is closed before the next one opens, where chat completions may
mix the arguments of several calls: what comes for a later call meanwhile is held back.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.providers.base import AnswerStream
from gateway.providers.sse import decode_object, events_in, payload_of
from gateway.types import Usage
from gateway.wires.messages_answer import (
    Wanted,
    arguments_in,
    stop_of,
    texts_in,
    thoughts_in,
    tool_id,
    usage_of,
)
from gateway.wires.messages_errors import error_of

_PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'
_MARK: Final = re.compile(r'\\.|["{}\[\]]', re.DOTALL)
"""What tells where JSON ends; a backslash goes with what it escapes."""
_TEXT: Final = "text"
_THINKING: Final = "thinking"


class NativeWriter:
    """Ends a stream whose events are Anthropic's own, which pass unchanged."""

    translate: Callable[[bytes], bytes] | None = None

    def end(
        self, usage: Usage | None, upstream: AnswerStream, summary: Callable[[], dict[str, Any]]
    ) -> bytes:
        """Write the end of a complete answer."""
        del usage, upstream
        return _event("message_stop", waypost=summary())

    def fail(self, error: Exception, request_id: str) -> bytes:
        """Write the end of an answer that is not complete."""
        return _event("error", error=error_of(error), request_id=request_id)


@dataclass(slots=True)
class _Call:
    """A call of a tool, as far as it has arrived; `written` counts its parts that were sent on."""

    id: object = None
    name: str = ""
    parts: list[str] = field(default_factory=list)
    written: int = 0
    is_closed: bool = False
    _read: int = 0
    _depth: int = 0
    _is_in_string: bool = False
    _is_escaped: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether its arguments, an object, have ended. No part is read twice."""
        for part in self.parts[self._read :]:
            text = part[1:] if self._is_escaped else part
            for mark in _MARK.findall(text):
                self._note(mark)
            self._is_escaped = (len(text) - len(text.rstrip("\\"))) % 2 == 1
        self._read = len(self.parts)
        return bool(self.parts) and self._depth == 0 and not self._is_in_string

    def _note(self, mark: str) -> None:
        if mark == '"':
            self._is_in_string = not self._is_in_string
        elif not self._is_in_string and mark in "{}[]":
            self._depth += 1 if mark in "{[" else -1


class MessagesWriter:
    """Turns chunks of chat completions into events of Messages."""

    def __init__(self, wants: Wanted) -> None:
        self.translate: Callable[[bytes], bytes] | None = self._translate
        self._wants = wants
        self._out: list[bytes] = []
        self._index = -1
        self._open: str | int | None = None
        """Kind of the open block, or the index of its call."""
        self._calls: dict[int, _Call] = {}
        self._held: list[tuple[str, str]] = []
        self._last: Mapping[str, Any] = {}
        self._has_refused = False
        self._id: object = None
        self._has_begun = False

    def end(
        self, usage: Usage | None, upstream: AnswerStream, summary: Callable[[], dict[str, Any]]
    ) -> bytes:
        """Write the end of a complete answer."""
        if not self._has_begun:
            self._begin(upstream.head or {})
        for index, call in self._calls.items():
            if not call.is_closed:
                self._open_call(index, call)
                self._write_call(call)
        self._write_held()
        self._close()
        stop = stop_of(self._last, self._wants, calls=bool(self._calls), refused=self._has_refused)
        self._put("message_delta", delta=stop, usage=usage_of(usage))
        self._put("message_stop", waypost=summary())
        return self._taken()

    def fail(self, error: Exception, request_id: str) -> bytes:
        """Write the end of an answer that is not complete."""
        return _event("error", error=error_of(error), request_id=request_id)

    def _translate(self, events: bytes) -> bytes:
        for event in events_in(events):
            payload = payload_of(event)
            chunk = decode_object(payload) if payload else None
            if chunk is not None:
                self._take(chunk)
            elif not payload and event.startswith(b":"):
                self._out.append(_PING if self._has_begun else event)
        return self._taken()

    def _taken(self) -> bytes:
        written = b"".join(self._out)
        self._out.clear()
        return written

    def _take(self, chunk: Mapping[str, Any]) -> None:
        self._id = self._id or chunk.get("id")
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        if not self._has_begun:
            self._begin(chunk)
        if isinstance(choice.get("finish_reason"), str):
            self._last = choice
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        thoughts = thoughts_in(delta) if self._wants.thoughts else ""
        if thoughts:
            self._say(_THINKING, thoughts)
        for text in texts_in(delta):
            self._say(_TEXT, text)
        self._has_refused |= bool(delta.get("refusal"))
        calls = delta.get("tool_calls")
        for position, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                self._take_call(call, position)

    def _begin(self, head: Mapping[str, Any]) -> None:
        self._has_begun = True
        message = {
            "id": self._id or head.get("id"),
            "type": "message",
            "role": "assistant",
            "model": head.get("model"),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_of(None),
        }
        self._put("message_start", message=message)

    def _say(self, kind: str, text: str) -> None:
        """Write text or thoughts; hold them back while a call is not complete."""
        self._held.append((kind, text))
        if self._may_close():
            self._write_held()

    def _write_held(self) -> None:
        """Write what was held back, in the block that is open or new ones."""
        held, self._held = self._held, []
        for kind, text in held:
            if self._open != kind:
                block = {"type": kind, kind: ""}
                self._start(kind, block | {"signature": ""} if kind == _THINKING else block)
            self._put_delta({"type": f"{kind}_delta", kind: text})

    def _take_call(self, part: Mapping[str, Any], position: int) -> None:
        index = part.get("index")
        index = index if type(index) is int else position
        call = self._calls.setdefault(index, _Call())
        function = part.get("function")
        function = function if isinstance(function, dict) else {}
        call.id = call.id or part.get("id")
        call.name = call.name or str(function.get("name") or "")
        arguments = arguments_in(function)
        if arguments:
            call.parts.append(arguments)
        if self._open != index and not call.is_closed and call.name and self._may_close():
            self._open_call(index, call)
        if self._open == index:
            self._write_call(call)

    def _may_close(self) -> bool:
        """Whether the open block is complete, as far as can be told."""
        return not isinstance(self._open, int) or self._calls[self._open].is_whole

    def _open_call(self, index: int, call: _Call) -> None:
        if self._open == index:
            return
        block = {"type": "tool_use", "id": tool_id(call.id, self._id, index), "name": call.name}
        self._start(index, block | {"input": {}})

    def _write_call(self, call: _Call) -> None:
        for part in call.parts[call.written :]:
            self._put_delta({"type": "input_json_delta", "partial_json": part})
        call.written = len(call.parts)

    def _start(self, kind: str | int, block: Mapping[str, Any]) -> None:
        self._close()
        self._open = kind
        self._index += 1
        self._put("content_block_start", index=self._index, content_block=block)

    def _close(self) -> None:
        if self._open is None:
            return
        if isinstance(self._open, int):
            self._calls[self._open].is_closed = True
        self._open = None
        self._put("content_block_stop", index=self._index)

    def _put_delta(self, delta: Mapping[str, Any]) -> None:
        self._put("content_block_delta", index=self._index, delta=delta)

    def _put(self, kind: str, **fields: Any) -> None:
        self._out.append(_event(kind, **fields))


def _event(kind: str, **fields: Any) -> bytes:
    body = orjson.dumps({"type": kind, **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), body)
