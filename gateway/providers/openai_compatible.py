"""Every host that speaks OpenAI's chat completions: requests and answers pass as they are.

Some speak OpenAI's Responses too; requests on that wire are sent to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from gateway.exact_json import dumps
from gateway.providers.base import Completion, UpstreamCall
from gateway.providers.histories import as_taken, foreign_fields
from gateway.providers.hosts import ANY_HOST, Host
from gateway.providers.lacks import OUTPUT_LIMITS
from gateway.providers.responses_native import (
    RESPONSES,
    ResponsesTap,
    native_body,
    native_completion,
)
from gateway.providers.sse import StreamTap, Tap
from gateway.providers.usage import usage_of
from gateway.types import CARRIED, HostedModel

MAX_REASON_CHARS: Final = 64
"""Of a reason to finish, as it is kept; the caller gets it whole."""
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class OpenAIDialect:
    """OpenAI's own form of address: one path, the model in the body.

    Args:
        base_url: Up to and including the version, such as ``https://api.openai.com/v1``.
        host: What it takes of a conversation.
    """

    provider: str
    base_url: str
    host: Host = ANY_HOST
    _foreign: frozenset[str] = field(init=False, repr=False, default=frozenset())

    def __post_init__(self) -> None:
        object.__setattr__(self, "_foreign", foreign_fields(self.host))

    def url(self, call: UpstreamCall, *, is_stream: bool) -> str:
        """Where `call` is sent."""
        del is_stream
        path = "responses" if self._is_native(call) else "chat/completions"
        return f"{self.base_url.rstrip('/')}/{path}"

    def _is_native(self, call: UpstreamCall) -> bool:
        return (
            self.host.speaks_responses and call.native is not None and call.native.wire == RESPONSES
        )

    def address(self, path: str, upstream_name: str | None) -> str:
        """Where an endpoint other than chat's is; `path` begins below the API's version."""
        del upstream_name
        return self.base_url.rstrip("/") + path

    def encode(self, call: UpstreamCall, *, is_stream: bool) -> bytes:
        """Write the request body; usage is always asked for in streams."""
        if self._is_native(call):
            return dumps(native_body(call, is_stream=is_stream))
        body = prepared_body(call)
        body["model"] = call.model.upstream_name
        if is_stream:
            options = body.get("stream_options")
            asked = options if isinstance(options, Mapping) else {}
            body["stream"] = True
            body["stream_options"] = {**asked, "include_usage": True}
        else:
            body.pop("stream", None)
            body.pop("stream_options", None)
        if "messages" in body:
            body["messages"] = as_taken(
                body["messages"], self.host, self._foreign, call.model.upstream_name
            )
        return dumps(body)

    def decode(self, call: UpstreamCall, body: dict[str, Any]) -> Completion:
        """Read a whole answer, which passes unchanged."""
        if self._is_native(call):
            return native_completion(body)
        choices = body["choices"]
        reason = choices[0].get("finish_reason") if choices else None
        kept = reason[:MAX_REASON_CHARS] if isinstance(reason, str) else None
        usage = usage_of(body.get("usage"), hides_reasoning=self.host.hides_reasoning)
        return Completion(body, usage, kept)

    def tap(self, call: UpstreamCall) -> Tap:
        """Make what reads a streamed answer."""
        if self._is_native(call):
            return ResponsesTap(self.provider)
        n_choices, options = call.body.get("n"), call.body.get("stream_options")
        return StreamTap(
            self.provider,
            n_choices if isinstance(n_choices, int) else 1,
            takes_usage=isinstance(options, dict) and options.get("include_usage") is True,
            hides_reasoning=self.host.hides_reasoning,
        )

    def headers(self, call: UpstreamCall) -> Mapping[str, str]:
        """Headers of the caller's that `call` is sent with: none."""
        del call
        return NO_HEADERS


@dataclass(frozen=True, slots=True)
class AzureDialect(OpenAIDialect):
    """Azure OpenAI: the deployment in the path, the API's version in the query."""

    api_version: str = ""

    def url(self, call: UpstreamCall, *, is_stream: bool) -> str:
        """Where `call` is sent: Responses have no deployment in their path."""
        del is_stream
        if self._is_native(call):
            base = self.base_url.rstrip("/").removesuffix("/v1").removesuffix("/openai")
            return f"{base}/openai/v1/responses"
        return self.address("/chat/completions", call.model.upstream_name)

    def address(self, path: str, upstream_name: str | None) -> str:
        """Where an endpoint is: below its deployment, if a model is named."""
        deployment = (
            "" if upstream_name is None else f"/deployments/{quote(upstream_name, safe='')}"
        )
        base = self.base_url.rstrip("/").removesuffix("/openai")
        return f"{base}/openai{deployment}{path}?api-version={quote(self.api_version, safe='')}"


def prepared_body(call: UpstreamCall) -> dict[str, Any]:
    """Copy the caller's body with the hosted model's system prompt and defaults worked in."""
    body = dict(call.body)
    if call.native is not None:
        leave_out_carried(body)
        body.pop("metadata", None)  # which OpenAI's chat completions take only where they store
    fill_defaults(body, call.model.request_defaults)
    if call.model.system_prompt:
        body["messages"] = with_system_prompt(body.get("messages") or [], call.model)
    return body


def leave_out_carried(body: dict[str, Any]) -> None:
    """Leave out of `body` what its messages and tools carry for upstreams of another wire."""
    for name in ("messages", "tools"):
        if name in body:
            body[name] = [
                {key: value for key, value in item.items() if key != CARRIED} for item in body[name]
            ]


def fill_defaults(body: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Set the fields of `defaults` that the caller left out, or sent as null, in `body`.

    The two names of the output limit count as one field.
    """
    has_limit = any(body.get(name) is not None for name in OUTPUT_LIMITS)
    for name, value in defaults.items():
        if name in OUTPUT_LIMITS and has_limit:
            continue
        if body.get(name) is None:
            body[name] = value


def with_system_prompt(messages: list[Any], model: HostedModel) -> list[Any]:
    """Put the model's system prompt first, joined to the caller's if that comes first.

    Joined, because several hosts' chat templates take one system message only.
    """
    prompt = model.system_prompt
    first = messages[0] if messages else None
    if not isinstance(first, Mapping) or first.get("role") not in ("system", "developer"):
        return [{"role": "system", "content": prompt}, *messages]
    content = first.get("content")
    if isinstance(content, list):
        joined: Any = [{"type": "text", "text": prompt}, *content]
    else:
        joined = f"{prompt}\n\n{content}" if content else prompt
    return [{**first, "content": joined}, *messages[1:]]
