"""Claude at the addresses of clouds: the model and the version of the API are elsewhere.

Amazon Bedrock's InvokeModel:
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html.
Google's Vertex AI: https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from gateway.providers.anthropic import AnthropicDialect, is_native
from gateway.providers.anthropic_native import BETA_HEADER, native_headers
from gateway.providers.anthropic_stream import AnthropicTap, NativeAnthropicTap
from gateway.providers.aws_frames import FrameReader
from gateway.providers.base import UpstreamCall
from gateway.providers.event_tap import EventTap
from gateway.providers.openai_compatible import NO_HEADERS

BEDROCK_VERSION: Final = "bedrock-2023-05-31"
VERTEX_VERSION: Final = "vertex-2023-10-16"


@dataclass(frozen=True, slots=True)
class VertexDialect(AnthropicDialect):
    """Claude on Vertex AI; `base_url` ends with the location."""

    def url(self, call: UpstreamCall, *, is_stream: bool) -> str:
        """Where `call` is sent: below its model."""
        method = "streamRawPredict" if is_stream else "rawPredict"
        model = quote(call.model.upstream_name, safe="@")
        return f"{self.base_url.rstrip('/')}/publishers/anthropic/models/{model}:{method}"

    def addressed(self, body: dict[str, Any], call: UpstreamCall) -> dict[str, Any]:
        """Return the body without the model, and with the version."""
        del call
        del body["model"]
        return body | {"anthropic_version": VERTEX_VERSION}


@dataclass(frozen=True, slots=True)
class BedrockDialect(AnthropicDialect):
    """Claude by Bedrock's InvokeModel; `base_url` is the host."""

    def url(self, call: UpstreamCall, *, is_stream: bool) -> str:
        """Where `call` is sent: below its model, whose name may be an ARN with slashes."""
        method = "invoke-with-response-stream" if is_stream else "invoke"
        model = quote(call.model.upstream_name, safe=":")
        return f"{self.base_url.rstrip('/')}/model/{model}/{method}"

    def addressed(self, body: dict[str, Any], call: UpstreamCall) -> dict[str, Any]:
        """Return the body without the model, and with the version and the betas."""
        del body["model"]
        body.pop("stream", None)
        body["anthropic_version"] = BEDROCK_VERSION
        betas = native_headers(call).get(BETA_HEADER, "") if is_native(call) else ""
        if betas:
            body["anthropic_beta"] = [beta.strip() for beta in betas.split(",")]
        return body

    def headers(self, call: UpstreamCall) -> Mapping[str, str]:
        """Headers of the caller's that `call` is sent with: none, its betas are in the body."""
        del call
        return NO_HEADERS

    def tap(self, call: UpstreamCall) -> AnthropicTap:
        """Make what reads a streamed answer."""
        kind = _FramedNativeTap if is_native(call) else _FramedTap
        return kind(self.provider, int(self.unix_time()))


class _Framed(EventTap):
    """A tap of events that come in frames of AWS."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._frames = FrameReader()

    def due(self, data: bytes) -> int:
        """Count the bytes of the events that `data` may complete; empty where nothing follows."""
        return super().due(data) + self._frames.waiting + len(data)

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; return what is forwarded of the whole events in it."""
        return super().feed(self._frames.feed(data))


class _FramedTap(_Framed, AnthropicTap):
    pass


class _FramedNativeTap(_Framed, NativeAnthropicTap):
    pass
