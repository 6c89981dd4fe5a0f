"""What a wire is: a form in which callers ask and are answered.

Inside there is one form of a turn, that of chat completions (`gateway.wire.ChatRequest`). Each wire
is a parser and a writer beside it, and each upstream dialect (`gateway.providers`) is its mirror.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from gateway.errors import RenderedError
from gateway.providers.base import AnswerStream, Completion
from gateway.types import Usage
from gateway.wire import ChatRequest

Headers = list[tuple[bytes, bytes]]


class StreamWriter(Protocol):
    """Writes one streamed answer."""

    @property
    def translate(self) -> Callable[[bytes], bytes] | None:
        """Turn whole events, as a provider forwards them, into the wire's; None: they pass."""
        ...

    def end(
        self, usage: Usage | None, upstream: AnswerStream, summary: Callable[[], dict[str, Any]]
    ) -> bytes:
        """Write the end of a complete answer.

        Args:
            usage: What is charged.
            summary: Makes what the gateway says of the turn.
        """
        ...

    def fail(self, error: Exception, request_id: str) -> bytes:
        """Write the end of an answer that is not complete."""
        ...


class Wire(Protocol):
    """A form in which callers ask and are answered."""

    def parse(self, raw: bytes, headers: Mapping[bytes, bytes]) -> ChatRequest:
        """Parse a request.

        Raises:
            InvalidRequest: It is malformed.
        """
        ...

    def whole(
        self,
        request: ChatRequest,
        completion: Completion,
        usage: Usage | None,
        summary: dict[str, Any],
    ) -> bytes:
        """Write a whole answer."""
        ...

    def writer(self, request: ChatRequest, upstream: AnswerStream) -> StreamWriter:
        """Make what writes a streamed answer."""
        ...

    def headers(self, headers: Headers) -> Headers:
        """Complete the headers of an answer."""
        ...

    def error(self, error: Exception) -> RenderedError:
        """Render what a caller is told instead of an answer."""
        ...
