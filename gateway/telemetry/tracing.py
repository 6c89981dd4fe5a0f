"""What a turn tells a tracer; where tracing is off nobody listens, and nothing is imported.

`gateway.telemetry.otlp_tracing` is what listens. W3C Trace Context: https://www.w3.org/TR/trace-context/
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from importlib import import_module
from typing import Any, Final, Protocol

from gateway.settings.config import ConfigurationError, TracingSettings
from gateway.types import Caller, HostedModel, TurnRecord
from gateway.wire import ChatRequest


class TurnTrace(Protocol):
    """The trace of one turn."""

    @property
    def trace_id(self) -> str | None:
        """Its id, 32 hexadecimal digits; None where there is no trace."""
        ...

    def step(self, name: str) -> AbstractContextManager[None]:
        """Time a part of the gateway's own work."""
        ...

    def begin_call(self, model: HostedModel) -> Mapping[str, str]:
        """Begin a call upstream; returns the headers by which the upstream joins the trace."""
        ...

    def fail_call(self, error: str) -> None:
        """End the call upstream: another model takes its place."""
        ...

    def end(self, turn: TurnRecord) -> None:
        """End the turn, and the call upstream that is under way."""
        ...


class Tracing(Protocol):
    """Makes traces."""

    def begin(self, request: ChatRequest, caller: Caller) -> TurnTrace:
        """Begin the trace of a turn, within its caller's where that names one."""
        ...


_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_NO_STEP: Final = nullcontext()
_NO_HEADERS: Final[Mapping[str, str]] = {}


class Untraced:
    """Tells nobody; makes itself, and is its own trace."""

    trace_id: str | None = None

    def begin(self, request: ChatRequest, caller: Caller) -> TurnTrace:
        """Return the trace that tells nobody."""
        del request, caller
        return self

    def step(self, name: str) -> AbstractContextManager[None]:
        """Time nothing."""
        del name
        return _NO_STEP

    def begin_call(self, model: HostedModel) -> Mapping[str, str]:
        """Return no headers."""
        del model
        return _NO_HEADERS

    def fail_call(self, error: str) -> None:
        """Do nothing."""

    def end(self, turn: TurnRecord) -> None:
        """Do nothing."""


def trace_of(headers: Mapping[str, str]) -> str | None:
    """Return the id of the trace that W3C's headers name; None where they name none."""
    found = _TRACEPARENT.match(headers.get("traceparent", ""))
    return None if found is None else found[1]


@asynccontextmanager
async def open_tracing(settings: TracingSettings) -> AsyncIterator[Tracing]:
    """Open what the settings ask for; leaving sends what was not sent yet.

    Raises:
        ConfigurationError: The tracing extra is missing.
    """
    if settings.endpoint is None:
        yield Untraced()
        return
    try:
        module = import_module("gateway.telemetry.otlp_tracing")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"tracing.endpoint needs {error.name}: pip install 'waypost[tracing]'"
        ) from error
    tracing: Any = module.OtlpTracing.open(settings)
    try:
        yield tracing
    finally:
        await asyncio.to_thread(tracing.close)
