"""What was asked and answered in one turn, in memory for as long as graders look at it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.evaluation_log.exchange import ForwardedEvents
from gateway.types import Caller, TurnRecord
from gateway.wire import ChatRequest, text_of

MAX_TEXT_CHARS: Final = 200_000
"""Of an answer, text and arguments of tools together; of a longer one the beginning is read."""
MAX_CALLS: Final = 128
"""Tool calls of an answer, as many as the largest providers allow tools."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that a model asked for; `arguments` is JSON as the model wrote it."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """What a model answered.

    Attributes:
        text: Without its reasoning.
        finish_reason: Why it ended, as the turn's record says.
        is_whole: All of it is here. A long stream's events are not all kept, and of several choices
            only the first one is read.
    """

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    is_whole: bool = True

    @property
    def n_chars(self) -> int:
        """How much there is to read: the text, and the arguments of tools."""
        return len(self.text) + sum(len(call.arguments) for call in self.tool_calls)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answered turn. Nothing of it is stored.

    Attributes:
        record: As it went to the log; grades name its `request_id`.
        request: In the form of chat completions, whichever wire it came on.
        caller: With what its team opted in to.
    """

    record: TurnRecord
    request: ChatRequest
    caller: Caller
    answer: GivenAnswer


def answer_in(said: Mapping[str, Any] | ForwardedEvents, finish_reason: str | None) -> GivenAnswer:
    """Read what was sent to the caller: a whole answer in OpenAI's form, or a stream's events.

    A stream takes 1 to 2 microseconds for each event, so the longest ones some milliseconds.
    """
    collected = _Collected()
    if isinstance(said, ForwardedEvents):
        for chunk in said.chunks():
            collected.take(chunk)
        collected.is_whole &= said.is_whole
    else:
        collected.take(said)
    return collected.answer(finish_reason)


@dataclass(slots=True)
class _Collected:
    """The pieces of an answer, of OpenAI's form or Anthropic's, put together."""

    texts: list[str] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    arguments: dict[int, list[str]] = field(default_factory=dict)
    n_chars: int = 0
    is_whole: bool = True

    def take(self, chunk: Mapping[str, Any]) -> None:
        """Add what one event says, or a whole answer."""
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            self._take_block(chunk)
            return
        for choice in choices:
            if isinstance(choice, dict):
                self._take_choice(choice)

    def answer(self, finish_reason: str | None) -> GivenAnswer:
        """Return the whole."""
        calls = tuple(
            ToolCall(self.names.get(at, ""), "".join(self.arguments.get(at, ())))
            for at in sorted(self.names.keys() | self.arguments.keys())
        )
        return GivenAnswer("".join(self.texts), calls, finish_reason, self.is_whole)

    def _take_choice(self, choice: Mapping[str, Any]) -> None:
        if choice.get("index"):
            self.is_whole = False  # one of several
            return
        said = choice.get("delta") or choice.get("message")
        if isinstance(said, dict):
            if content := said.get("content"):
                self._add_text(text_of(content))
            if calls := said.get("tool_calls"):
                self._take_calls(calls)

    def _take_calls(self, calls: object) -> None:
        for position, call in enumerate(calls if isinstance(calls, list) else ()):
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict):
                at = call.get("index")
                self._add_call(
                    at if type(at) is int else position,
                    function.get("name"),
                    function.get("arguments"),
                )

    def _take_block(self, event: Mapping[str, Any]) -> None:
        """Add what an event of Anthropic's says."""
        at, kind = event.get("index"), event.get("type")
        if kind == "content_block_start":
            block = event.get("content_block")
            if isinstance(block, dict) and block.get("type") == "tool_use" and type(at) is int:
                self._add_call(at, block.get("name"), "")
        elif kind == "content_block_delta":
            delta = event.get("delta")
            if isinstance(delta, dict) and delta.get("type") == "text_delta":
                self._add_text(text_of(delta.get("text")))
            elif isinstance(delta, dict) and type(at) is int:
                self._add_call(at, None, delta.get("partial_json"))

    def _add_text(self, text: str) -> None:
        if text and self._has_room(text):
            self.texts.append(text)

    def _add_call(self, at: int, name: object, arguments: object) -> None:
        if isinstance(name, str) and name:
            if len(self.names) >= MAX_CALLS:
                self.is_whole = False
                return
            self.names[at] = name
        if isinstance(arguments, str) and at in self.names and self._has_room(arguments):
            self.arguments.setdefault(at, []).append(arguments)

    def _has_room(self, text: str) -> bool:
        self.n_chars += len(text)
        self.is_whole &= self.n_chars <= MAX_TEXT_CHARS
        return self.is_whole
