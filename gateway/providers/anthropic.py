"""Anthropic's Messages API as one more dialect."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.exact_json import dumps
from gateway.providers.anthropic_messages import malformed
from gateway.providers.anthropic_stream import AnthropicTap
from gateway.providers.anthropic_wire import from_anthropic, to_anthropic, usage_of
from gateway.providers.base import Completion, UpstreamCall
from gateway.providers.openai_compatible import prepared_body

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

    def url(self, call: UpstreamCall) -> str:
        """Where `call` is sent."""
        del call
        return f"{self.base_url.rstrip('/').removesuffix('/v1')}/v1/messages"

    def encode(self, call: UpstreamCall, *, is_stream: bool) -> bytes:
        """Write the request body.

        Raises:
            ProviderRejected: It has no equivalent, or is not a chat-completions body.
        """
        body = prepared_body(call)
        body["stream"] = is_stream
        limit = call.model.capabilities.max_output_tokens
        try:
            return dumps(to_anthropic(body, call.model.upstream_name, limit, call.dropped))
        except (KeyError, TypeError, AttributeError) as error:
            raise malformed(error, "body") from error

    def decode(self, call: UpstreamCall, body: dict[str, Any]) -> Completion:
        """Read a whole answer."""
        del call
        translated = from_anthropic(body, int(self.unix_time()))
        reason = translated["choices"][0]["finish_reason"]
        return Completion(translated, usage_of(body.get("usage")), reason)

    def tap(self, call: UpstreamCall) -> AnthropicTap:
        """Make what reads a streamed answer."""
        del call
        return AnthropicTap(self.provider, int(self.unix_time()))
