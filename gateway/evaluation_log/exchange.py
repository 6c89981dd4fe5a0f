"""What was asked and answered in a turn, kept only for teams that let a reasoner learn from it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import orjson

from gateway.providers.sse import boundaries, decode_object, payload_of
from gateway.wire import ChatRequest, text_of

MAX_KEPT_CHARS: Final = 32_768
"""Of a prompt, and of an answer: longer ones are not kept, since half of one teaches nothing."""
MAX_KEPT_BYTES: Final = 1024 * 1024
"""Of a stream's events that a reasoner may learn from, about 5,000 tokens in OpenAI's form."""
MAX_COUNTED_BYTES: Final = 256 * 1024
"""Of any other stream's, which are kept only to be counted: a thousand streams take 256 MB."""
MAX_DEPTH: Final = 8
"""Of a message; what lies deeper is nothing that any model puts out."""
DATA: Final = b"data: {"
NOT_OUTPUT: Final = frozenset({"role", "id", "type", "index", "format", "signature"})
NOT_TEXT: Final = NOT_OUTPUT | {"audio", "b64_json", "data", "image_url", "images"}
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
    message = choices[0].get("message") if isinstance(choices[0], dict) else None
    return _kept("".join(_content(message)))


class ForwardedEvents:
    """The events of a stream as they were forwarded, kept to be read only if need be.

    Nothing is decoded while they pass. What they say is read where the provider's count is not
    final, to charge it, where a reasoner may learn from it, and where the answer is graded.
    """

    __slots__ = ("_events", "_max_bytes", "_n_others", "n_bytes")

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._events: list[bytes] = []
        self._max_bytes = max_bytes
        self._n_others = 0
        self.n_bytes = 0

    def add(self, events: bytes) -> None:
        """Take whole events as they are forwarded to the caller."""
        left = max(self._max_bytes - self.n_bytes, 0)
        if left:
            self._events.append(events[:left])
        if left < len(events):
            self._n_others += events.count(b"\n\n", left)
        self.n_bytes += len(events)

    @property
    def is_whole(self) -> bool:
        """Whether all that was forwarded is kept."""
        return self.n_bytes <= self._max_bytes

    @property
    def n_kept_bytes(self) -> int:
        """Bytes in memory."""
        return min(self.n_bytes, self._max_bytes)

    def chunks(self) -> Iterator[Mapping[str, Any]]:
        """Iterate over what the kept events hold, decoded."""
        events = b"".join(self._events)
        # Nearly all streams have an object per line; decoded at once they cost a third.
        lines = events.split(b"\n") if self.is_whole else events.split(b"\n")[:-1]
        payloads = [line[len(DATA) - 1 :] for line in lines if line.startswith(DATA)]
        with suppress(orjson.JSONDecodeError):
            chunks = orjson.loads(b"[" + b",".join(payloads) + b"]")
            return (chunk for chunk in chunks if isinstance(chunk, dict))
        return _chunks(events, boundaries(events))

    @property
    def text(self) -> str | None:
        """The answer's text; None where it was nothing or too much."""
        if not self.is_whole:
            return None
        events = b"".join(self._events)
        deltas = _deltas(events, boundaries(events))
        return _kept("".join(text for delta in deltas for text in _content(delta)))

    def n_chars(self) -> int:
        """Count the characters of what the model wrote; where not all is kept, by the rest."""
        events = b"".join(self._events)
        counted = sum(map(chars_in, _deltas(events, boundaries(events))))
        return counted if self.is_whole else counted * self.n_bytes // len(events)

    def output(self) -> tuple[str, int]:
        """Return all that the model put out, and how many bytes more of it there are at most.

        That is content, reasoning and arguments of tools. There is more only where more than
        `max_bytes` passed: then each event that is not kept is taken to hold as little beside its
        output as any that is.
        """
        events = b"".join(self._events)
        ends = boundaries(events)
        if self.is_whole:
            texts = [text for delta in _deltas(events, ends) for text in written_in(delta)]
            return "".join(texts), 0
        texts, beside, start = [], [], 0
        for end in ends:
            deltas = _deltas(events[start:end], [end])
            if said := [text for delta in deltas for text in written_in(delta)]:
                beside.append(end - start - sum(len(text.encode()) for text in said))
                texts += said
            start = end
        rest = self.n_bytes - start - min(beside, default=0) * self._n_others
        return "".join(texts), max(rest, 0)


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


def _chunks(events: bytes, ends: Iterable[int]) -> Iterator[Mapping[str, Any]]:
    start = 0
    for end in ends:
        payload = payload_of(events[start:end])
        start = end
        chunk = decode_object(payload) if payload else None
        if chunk is not None:
            yield chunk


def _deltas(events: bytes, ends: Iterable[int]) -> Iterator[Mapping[str, Any]]:
    for chunk in _chunks(events, ends):
        if chunk.get("type") == "content_block_delta" and isinstance(chunk.get("delta"), dict):
            yield chunk["delta"]  # of Anthropic's, which pass as they are to callers of its wire
        elif isinstance(chunk.get("delta"), str):  # of Responses, likewise
            is_text = chunk.get("type") == "response.output_text.delta"
            yield {"content" if is_text else "other": chunk["delta"]}
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            delta = choice.get("delta") if isinstance(choice, dict) else None
            if isinstance(delta, dict):
                yield delta
            elif isinstance(choice, dict) and isinstance(choice.get("text"), str):
                yield {"content": choice["text"]}  # of a text completion


def _content(said: Any) -> Iterator[str]:
    if not isinstance(said, dict):
        return
    content = said.get("text") if said.get("type") == "text_delta" else said.get("content")
    if isinstance(content, str):
        yield content


def chars_in(said: Any) -> int:
    """Count the characters that a model wrote in a message or delta; pictures and sound have none.

    It counts a text once, as `written_in` does.
    """
    return sum(map(len, dict.fromkeys(_strings_of(said, but=NOT_TEXT))))


def written_in(said: Any) -> Iterable[str]:
    """Find what a model wrote in a message or delta.

    A text that is in it twice counts once: many hosts send reasoning under two or three names.
    """
    return dict.fromkeys(_strings_of(said))


def _strings_of(
    value: Any, depth: int = MAX_DEPTH, but: frozenset[str] = NOT_OUTPUT
) -> Iterator[str]:
    """Find every string of a message or delta, but for what names and tells its parts apart."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and depth:
        for name, part in value.items():
            if name in but:
                continue
            if isinstance(part, str):  # as nearly always: a generator for each takes longer
                yield part
            elif part is not None:
                yield from _strings_of(part, depth - 1, but)
    elif isinstance(value, list) and depth:
        for part in value:
            yield from _strings_of(part, depth - 1, but)


def _kept(text: str | None) -> str | None:
    return text if text and len(text) <= MAX_KEPT_CHARS else None
