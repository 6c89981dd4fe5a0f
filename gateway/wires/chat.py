"""Chat completions as a wire: what is inside passes as it is.

https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import RenderedError, error_body, render
from gateway.exact_json import dumps
from gateway.providers.base import AnswerStream, Completion
from gateway.types import Usage
from gateway.wire import ChatRequest, parse_chat_request
from gateway.wires.base import Headers, StreamWriter, Wire

DONE: Final = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class ChatWriter:
    """Ends a stream with usage, where it was asked for, and [DONE]; or with an error event."""

    wants_usage: bool
    translate: Callable[[bytes], bytes] | None = None

    def end(
        self, usage: Usage | None, upstream: AnswerStream, summary: Callable[[], dict[str, Any]]
    ) -> bytes:
        """Write the end of a complete answer."""
        if not self.wants_usage:
            return DONE
        event = {**_usage_event(usage, upstream), "waypost": summary()}
        return b"data: " + dumps(event) + b"\n\n" + DONE

    def fail(self, error: Exception, request_id: str) -> bytes:
        """Write an error event, and no [DONE]."""
        del request_id
        return b"data: " + error_body(error) + b"\n\n"


class ChatWire:
    """OpenAI's chat completions."""

    def parse(self, raw: bytes, headers: Mapping[bytes, bytes]) -> ChatRequest:
        """Parse a request."""
        return parse_chat_request(raw, headers)

    def whole(
        self,
        request: ChatRequest,
        completion: Completion,
        usage: Usage | None,
        summary: dict[str, Any],
    ) -> bytes:
        """Write a whole answer: the provider's, and what the gateway says of the turn."""
        del request, usage
        return dumps({**completion.body, "waypost": summary})

    def writer(self, request: ChatRequest, upstream: AnswerStream) -> StreamWriter:
        """Make what writes a streamed answer."""
        del upstream
        return ChatWriter(request.wants_usage)

    def headers(self, headers: Headers) -> Headers:
        """Complete the headers of an answer."""
        return headers

    def error(self, error: Exception) -> RenderedError:
        """Render an error in OpenAI's shape."""
        return render(error)


CHAT: Final[Wire] = ChatWire()


def _usage_event(usage: Usage | None, upstream: AnswerStream) -> dict[str, Any]:
    """Take the provider's usage chunk; write one where its counts are not those charged."""
    event = upstream.usage_event
    if event is not None and usage is not None and not usage.is_estimated:
        return event
    usage = usage or Usage(0, 0)
    return {
        **(upstream.head or {}),
        "object": "chat.completion.chunk",
        "choices": [],
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
    }
