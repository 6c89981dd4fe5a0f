"""Anthropic's Messages as a wire.

https://platform.claude.com/docs/en/api/messages

Answers of an upstream of the same form pass as they are; all others are translated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import RenderedError
from gateway.exact_json import dumps
from gateway.providers.base import AnswerStream, Completion
from gateway.types import Usage
from gateway.wire import ChatRequest
from gateway.wires.base import Headers, StreamWriter, Wire
from gateway.wires.messages_answer import Wanted, message_of, usage_of
from gateway.wires.messages_errors import render_as_anthropic
from gateway.wires.messages_request import parse_messages_request
from gateway.wires.messages_stream import MessagesWriter, NativeWriter


@dataclass(frozen=True, slots=True)
class MessagesWire:
    """Anthropic's Messages.

    Attributes:
        needs_limit: A request must say how long its answer may be.
    """

    needs_limit: bool = True

    def parse(self, raw: bytes, headers: Mapping[bytes, bytes]) -> ChatRequest:
        """Parse a request."""
        return parse_messages_request(raw, headers, needs_limit=self.needs_limit)

    def whole(
        self,
        request: ChatRequest,
        completion: Completion,
        usage: Usage | None,
        summary: dict[str, Any],
    ) -> bytes:
        """Write a whole answer, and what the gateway says of the turn."""
        if completion.native is not None:
            return dumps({**completion.native, "waypost": summary})
        message = message_of(completion.body, _wanted(request))
        return dumps({**message, "usage": usage_of(usage), "waypost": summary})

    def writer(self, request: ChatRequest, upstream: AnswerStream) -> StreamWriter:
        """Make what writes a streamed answer."""
        return NativeWriter() if upstream.is_native else MessagesWriter(_wanted(request))

    def headers(self, headers: Headers) -> Headers:
        """Add the request's id under Anthropic's name."""
        return [*headers, *((b"request-id", v) for name, v in headers if name == b"x-request-id")]

    def error(self, error: Exception) -> RenderedError:
        """Render an error in Anthropic's shape."""
        return render_as_anthropic(error)


MESSAGES: Final[Wire] = MessagesWire()
MESSAGES_TO_COUNT: Final[Wire] = MessagesWire(needs_limit=False)


def _wanted(request: ChatRequest) -> Wanted:
    return Wanted({} if request.native is None else request.native.body)
