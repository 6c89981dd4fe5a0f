"""How one kind of upstream is spoken to, and how long it may take."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.providers.base import Completion, UpstreamCall
from gateway.providers.sse import Tap


class Dialect(Protocol):
    """How one kind of upstream is spoken to."""

    def url(self, call: UpstreamCall, *, is_stream: bool) -> str:
        """Where `call` is sent."""
        ...

    def address(self, path: str, upstream_name: str | None) -> str:
        """Where an endpoint other than chat's is.

        Args:
            path: Below the API's version, such as ``/embeddings``.
            upstream_name: Of the model that serves it; None where none is named.
        """
        ...

    def encode(self, call: UpstreamCall, *, is_stream: bool) -> bytes:
        """Write the request body.

        Raises:
            ProviderRejected: The upstream has no way to do what is asked.
        """
        ...

    def decode(self, call: UpstreamCall, body: dict[str, Any]) -> Completion:
        """Read a whole answer.

        Raises:
            ValueError: It is not a completion.
        """
        ...

    def tap(self, call: UpstreamCall) -> Tap:
        """Make what reads a streamed answer."""
        ...

    def headers(self, call: UpstreamCall) -> Mapping[str, str]:
        """Headers of the caller's that `call` is sent with."""
        ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a provider may take, in seconds; see `gateway.settings.config.ProviderSettings`."""

    connect_s: float
    first_byte_s: float
    idle_s: float
    deadline_s: float
    comments_s: float = 3.0
    """How long comments alone may come before they are passed on and no other model can answer."""
    ending_s: float = 3.0
    """How long nothing may come once every choice has its reason to finish: then it is complete."""
