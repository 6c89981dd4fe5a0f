"""Traces of turns for an OpenTelemetry collector, over HTTP; needs the tracing extra.

Names: OpenTelemetry's GenAI conventions, https://opentelemetry.io/docs/specs/semconv/gen-ai/
(status: Development), as of `SCHEMA`; what they do not cover is ``waypost.*``.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final, Self

import orjson
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from budget.ledger.amounts import NUSD_PER_USD
from gateway.settings.config import TracingSettings
from gateway.telemetry.tracing import TurnTrace
from gateway.types import Caller, HostedModel, TurnRecord
from gateway.wire import ChatRequest, text_of

SCHEMA: Final = "https://opentelemetry.io/schemas/1.44.0"
OPERATION: Final = "chat"
REQUEST_FIELDS: Final = {
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_tokens": "gen_ai.request.max_tokens",
    "n": "gen_ai.request.choice.count",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
}
_CONTEXT: Final = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class OtlpTracing:
    """Sends traces.

    Attributes:
        has_content: Put prompts on spans, of teams that keep the text of their queries.
    """

    provider: TracerProvider
    tracer: Tracer
    has_content: bool

    @classmethod
    def open(cls, settings: TracingSettings) -> Self:
        """Make what sends to the settings' endpoint, in a thread of its own."""
        release = version("waypost")
        resource = {"service.name": settings.service_name, "service.version": release}
        provider = TracerProvider(
            resource=Resource(resource, SCHEMA),
            sampler=ParentBased(TraceIdRatioBased(settings.sampled_share)),
            shutdown_on_exit=False,
        )
        headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
        exporter = OTLPSpanExporter(
            endpoint=settings.endpoint, headers=headers, timeout=settings.timeout_s
        )
        provider.add_span_processor(BatchSpanProcessor(exporter))
        return cls(provider, provider.get_tracer("waypost", release, SCHEMA), settings.content)

    def begin(self, request: ChatRequest, caller: Caller) -> TurnTrace:
        """Begin the trace of a turn, within its caller's where that names one."""
        span = self.tracer.start_span(
            f"{OPERATION} {request.model}",
            context=_CONTEXT.extract(request.trace_headers),
            kind=SpanKind.SERVER,
        )
        trace = OtlpTrace(self.tracer, span)
        if span.is_recording():
            span.set_attributes(_request_attributes(request))
            if self.has_content and caller.logs_text:
                span.set_attribute("gen_ai.input.messages", _messages(request))
        return trace

    def close(self) -> None:
        """Send what was not sent yet."""
        self.provider.shutdown()


@dataclass(slots=True)
class OtlpTrace:
    """The trace of one turn: a span, and one for each step and each call upstream."""

    tracer: Tracer
    span: Span
    _call: Span | None = field(default=None, init=False)

    @property
    def trace_id(self) -> str:
        """Its id, 32 hexadecimal digits; also where it is not sampled."""
        return format_trace_id(self.span.get_span_context().trace_id)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a part of the gateway's own work."""
        span = self.tracer.start_span(name, context=set_span_in_context(self.span))
        try:
            yield
        except BaseException as error:
            _fail(span, type(error).__name__)
            raise
        finally:
            span.end()

    def begin_call(self, model: HostedModel) -> Mapping[str, str]:
        """Begin a call upstream; returns the headers by which the upstream joins the trace."""
        self._call = call = self.tracer.start_span(
            f"{OPERATION} {model.upstream_name}",
            context=set_span_in_context(self.span),
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": OPERATION,
                "gen_ai.provider.name": model.provider,
                "gen_ai.request.model": model.upstream_name,
            },
        )
        headers: dict[str, str] = {}
        _CONTEXT.inject(headers, set_span_in_context(call))
        return headers

    def fail_call(self, error: str) -> None:
        """End the call upstream: another model takes its place."""
        if self._call is not None:
            _fail(self._call, error)
            self._call.end()
            self._call = None

    def end(self, turn: TurnRecord) -> None:
        """End the turn, and the call upstream that is under way."""
        response = _response_attributes(turn)
        for span in filter(None, (self._call, self.span)):
            span.set_attributes(response)
            if turn.error is not None:
                _fail(span, turn.error)
        self.span.set_attributes(_routing_attributes(turn))
        if self._call is not None:
            self._call.end()
        self.span.end()


def _request_attributes(request: ChatRequest) -> dict[str, Any]:
    """Say what was asked for, without what was asked."""
    body = request.body
    asked: dict[str, Any] = {
        "gen_ai.operation.name": OPERATION,
        "gen_ai.request.model": request.model,
        "gen_ai.request.stream": request.is_stream,
    }
    if request.options.conversation_id is not None:
        asked["gen_ai.conversation.id"] = request.options.conversation_id
    for name, attribute in REQUEST_FIELDS.items():
        if isinstance(body.get(name), int | float):
            asked[attribute] = body[name]
    return asked


def _response_attributes(turn: TurnRecord) -> dict[str, Any]:
    """Say what came of the call upstream; OpenTelemetry leaves out what is None."""
    usage = turn.usage
    return _known(
        {
            "gen_ai.response.id": turn.answer_id,
            "gen_ai.response.model": turn.served_model,
            "gen_ai.response.finish_reasons": turn.finish_reason and [turn.finish_reason],
            "gen_ai.response.time_to_first_chunk": turn.first_byte_s,
            "gen_ai.usage.input_tokens": usage and usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage and usage.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage and usage.cached_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage and usage.reasoning_tokens,
        }
    )


def _routing_attributes(turn: TurnRecord) -> dict[str, Any]:
    """Say how the turn was routed and what it cost."""
    return _known(
        {
            "gen_ai.provider.name": turn.provider,
            "waypost.request_id": turn.request_id,
            "waypost.decision_id": turn.decision_id,
            "waypost.team_id": turn.team_id,
            "waypost.router.version": turn.router_version,
            "waypost.router.reason": turn.route_reason,
            "waypost.router.propensity": turn.propensity,
            "waypost.chosen_model": turn.chosen_model,
            "waypost.attempts": turn.attempts,
            "waypost.cost_usd": turn.cost_nusd / NUSD_PER_USD,
            "waypost.turn_budget.allotted_tokens": turn.allotted_tokens,
        }
    )


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def _messages(request: ChatRequest) -> str:
    """Write the prompt's texts in the form that the conventions give messages."""
    return orjson.dumps(
        [
            {
                "role": message.get("role"),
                "parts": [{"type": "text", "content": text_of(message.get("content"))}],
            }
            for message in request.body["messages"]
        ]
    ).decode()


def _fail(span: Span, error: str) -> None:
    """Note the class of an error; its words may hold a caller's."""
    span.set_attribute("error.type", error)
    span.set_status(StatusCode.ERROR)
