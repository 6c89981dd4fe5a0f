"""What was asked and answered in a turn, kept only for teams that let a reasoner learn from it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.providers.sse import boundaries, decode_object, payload_of
from gateway.wire import ChatRequest, text_of

MAX_KEPT_CHARS: Final = 32_768
"""Of a prompt, and of an answer: longer ones are not kept, since half of one teaches nothing."""
ROLES: Final = frozenset({"system", "developer", "user", "assistant"})

Messages = tuple[Mapping[str, str], ...]


def prompt_of(request: ChatRequest) -> Messages | None:
    """Return the messages as plain text; None where text is not all there is to the prompt."""
    body = request.body
    if body.get("tools") or body.get("functions") or body.get("n") not in (None, 1):
        return None
    messages = tuple(_plain(message) for message in body["messages"])
    kept = tuple(message for message in messages if message is not None)
    n_chars = sum(len(message["content"]) for message in kept)
    return kept if len(kept) == len(messages) and n_chars <= MAX_KEPT_CHARS else None


def answer_of(body: Mapping[str, Any]) -> str | None:
    """Return the text of a whole answer; None where it has none, several or too much."""
    choices = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1:
        return None
    return _kept(_content(choices[0], "message"))


@dataclass(slots=True)
class StreamedText:
    """Gathers the text of an answer from the events of its stream."""

    _parts: list[str] = field(default_factory=list)
    _chars: int = 0

    def feed(self, events: bytes) -> None:
        """Take whole events as they are forwarded to the caller."""
        start = 0
        for end in boundaries(events):
            for text in _texts(payload_of(events[start:end])):
                self._chars += len(text)
                if self._chars <= MAX_KEPT_CHARS:
                    self._parts.append(text)
            start = end

    @property
    def text(self) -> str | None:
        """All that came so far; None where it was nothing or too much."""
        return _kept("".join(self._parts)) if self._chars <= MAX_KEPT_CHARS else None


def _plain(message: Any) -> Mapping[str, str] | None:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        return None
    if message.get("tool_calls") or message.get("function_call"):
        return None
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        if len(parts) != len(content):
            return None
    text = text_of(content)
    return {"role": message["role"], "content": text} if text else None


def _texts(payload: bytes) -> Iterator[str]:
    chunk = decode_object(payload) if payload else None
    choices = None if chunk is None else chunk.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        text = _content(choice, "delta")
        if text:
            yield text


def _content(choice: Any, key: str) -> str | None:
    said = choice.get(key) if isinstance(choice, dict) else None
    content = said.get("content") if isinstance(said, dict) else None
    return content if isinstance(content, str) else None


def _kept(text: str | None) -> str | None:
    return text if text and len(text) <= MAX_KEPT_CHARS else None
