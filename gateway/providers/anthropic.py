"""Anthropic's Messages API as one more dialect."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.exact_json import dumps
from gateway.providers.anthropic_messages import malformed
from gateway.providers.anthropic_native import MESSAGES, native_body, native_headers
from gateway.providers.anthropic_stream import AnthropicTap, NativeAnthropicTap
from gateway.providers.anthropic_wire import from_anthropic, to_anthropic, usage_of
from gateway.providers.base import Completion, UpstreamCall
from gateway.providers.openai_compatible import NO_HEADERS, prepared_body

API_VERSION = "2023-06-01"


@dataclass(frozen=True, slots=True)
class AnthropicDialect:
    """Speaks to ``{base_url}/v1/messages``.

    Args:
        unix_time: Stamps answers, which Anthropic leaves undated.
    """

    provider: str
    base_url: str
    unix_time: Callable[[], float] = time.time

    def url(self, call: UpstreamCall, *, is_stream: bool) -> str:
        """Where `call` is sent."""
        del call, is_stream
        return self.address("/messages", None)

    def address(self, path: str, upstream_name: str | None) -> str:
        """Where an endpoint is."""
        del upstream_name
        return f"{self.base_url.rstrip('/').removesuffix('/v1')}/v1{path}"

    def encode(self, call: UpstreamCall, *, is_stream: bool) -> bytes:
        """Write the request body.

        Raises:
            ProviderRejected: It has no equivalent, or is not a chat-completions body.
        """
        limit = call.model.capabilities.max_output_tokens
        try:
            if is_native(call):
                return dumps(self.addressed(native_body(call, is_stream=is_stream), call))
            body = prepared_body(call)
            body["stream"] = is_stream
            translated = to_anthropic(body, call.model.upstream_name, limit, call.dropped)
            return dumps(self.addressed(translated, call))
        except (KeyError, TypeError, AttributeError) as error:
            raise malformed(error, "body") from error

    def addressed(self, body: dict[str, Any], call: UpstreamCall) -> dict[str, Any]:
        """Return the body with what only this address wants otherwise."""
        del call
        return body

    def decode(self, call: UpstreamCall, body: dict[str, Any]) -> Completion:
        """Read a whole answer."""
        translated = from_anthropic(body, int(self.unix_time()))
        reason = translated["choices"][0]["finish_reason"]
        native = body if is_native(call) else None
        return Completion(translated, usage_of(body.get("usage")), reason, native=native)

    def tap(self, call: UpstreamCall) -> AnthropicTap:
        """Make what reads a streamed answer."""
        kind = NativeAnthropicTap if is_native(call) else AnthropicTap
        return kind(self.provider, int(self.unix_time()))

    def headers(self, call: UpstreamCall) -> Mapping[str, str]:
        """Headers of the caller's that `call` is sent with: the betas that it asks for."""
        return native_headers(call) if is_native(call) else NO_HEADERS


def is_native(call: UpstreamCall) -> bool:
    """Whether a call came in Anthropic's own form."""
    return call.native is not None and call.native.wire == MESSAGES
