"""OpenAI's Responses as a wire.

https://platform.openai.com/docs/api-reference/responses

Answers of an upstream of the same form pass as they are; all others are translated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import RenderedError, render
from gateway.exact_json import dumps
from gateway.providers.base import AnswerStream, Completion
from gateway.types import Usage
from gateway.wire import ChatRequest
from gateway.wires.base import Headers, StreamWriter, Wire
from gateway.wires.responses_answer import Wanted, kept, response_of
from gateway.wires.responses_request import parse_responses_request
from gateway.wires.responses_stream import NativeWriter, ResponsesWriter


@dataclass(frozen=True, slots=True)
class ResponsesWire:
    """OpenAI's Responses.

    Attributes:
        is_count: Tokens are only counted, so no model need be named.
    """

    is_count: bool = False

    def parse(self, raw: bytes, headers: Mapping[bytes, bytes]) -> ChatRequest:
        """Parse a request."""
        return parse_responses_request(raw, headers, is_count=self.is_count)

    def whole(
        self,
        request: ChatRequest,
        completion: Completion,
        usage: Usage | None,
        summary: dict[str, Any],
    ) -> bytes:
        """Write a whole answer, and what the gateway says of the turn."""
        response = completion.native
        if response is None:
            response = response_of(completion.body, _wanted(request), usage)
        return dumps(kept({**response, "waypost": summary}, request.keeping))

    def writer(self, request: ChatRequest, upstream: AnswerStream) -> StreamWriter:
        """Make what writes a streamed answer."""
        if upstream.is_native:
            return NativeWriter(upstream, request.keeping)
        return ResponsesWriter(_wanted(request))

    def headers(self, headers: Headers) -> Headers:
        """Complete the headers of an answer."""
        return headers

    def error(self, error: Exception) -> RenderedError:
        """Render an error in OpenAI's shape."""
        return render(error)


RESPONSES: Final[Wire] = ResponsesWire()
RESPONSES_TO_COUNT: Final[Wire] = ResponsesWire(is_count=True)


def _wanted(request: ChatRequest) -> Wanted:
    return Wanted({} if request.native is None else request.native.body, request.keeping)
