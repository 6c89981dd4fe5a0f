"""Prometheus metrics of turns: OpenTelemetry's GenAI names where it has them, waypost_* where not.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/ (status: Development).
No label carries a key, a team or a caller's text: the set of series is bounded by the settings.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry

from budget.ledger.amounts import NUSD_PER_USD
from gateway.evaluation_log.grades import GradeRecord, KnownAnswer
from gateway.routing.plan import ROUTER_FAILED, ROUTER_MISSING, RoutePlan
from gateway.telemetry.expectations import Expectations
from gateway.telemetry.families import Read
from gateway.telemetry.series import END, Counts, Distribution, Reading, render
from gateway.types import HostedModel, TurnRecord, Usage

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_CHUNK_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_OVERHEAD = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
_MODEL = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
MAX_VERSIONS: Final = 8
"""Routers that have series; callers may pin any that is in the store."""


class CallSeries:
    """Calls of models, as OpenTelemetry names and counts them."""

    def __init__(self) -> None:
        self._duration = Distribution(
            "gen_ai_client_operation_duration_seconds",
            "Seconds from the request to the last byte of the answer.",
            _SECONDS,
            (*_MODEL, "error_type"),
        )
        self._first_chunk = Distribution(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "Seconds from the request to the first event of a stream.",
            _SECONDS,
            _MODEL,
        )
        self._per_chunk = Distribution(
            "gen_ai_client_operation_time_per_output_chunk_seconds",
            "Seconds between two reads of a stream; one read may hold several events.",
            _CHUNK_SECONDS,
            _MODEL,
        )
        self._tokens = Distribution(
            "gen_ai_client_token_usage",
            "Tokens of one call, by type: input or output.",
            _TOKENS,
            (*_MODEL, "gen_ai_token_type"),
        )
        self._cache = Counts(
            "waypost_prompt_cache_tokens",
            "Input tokens that were read from a provider's prompt cache, or written to it, by use.",
            (*_MODEL, "use"),
        )
        self._doubts = Counts(
            "waypost_doubtful_usage",
            "Complete answers whose tokens the provider did not report, or not plausibly, by kind.",
            ("provider", "kind"),
        )
        spans = (self._duration, self._first_chunk, self._per_chunk)
        self.families = (*spans, self._tokens, self._cache, self._doubts)

    def add(self, turn: TurnRecord) -> None:
        """Count one turn that reached a model."""
        names = ("chat", turn.provider or "", turn.served_model or "")
        self.add_call(names, turn.error, turn.latency_s, turn.usage, turn.trace_id)
        if turn.first_byte_s is not None:
            self._first_chunk.observe(names, turn.first_byte_s, turn.trace_id)

    def add_call(
        self,
        names: tuple[str, str, str],
        error: str | None,
        latency_s: float,
        usage: Usage | None,
        trace_id: str | None = None,
    ) -> None:
        """Count one call of a model, by its operation, provider and model."""
        self._duration.observe((*names, error or ""), latency_s, trace_id)
        if usage is not None:
            self._tokens.observe((*names, "input"), usage.prompt_tokens)
            self._tokens.observe((*names, "output"), usage.completion_tokens)
            if usage.cached_tokens:
                self._cache.add((*names, "read"), usage.cached_tokens)
            if usage.cache_write_tokens:
                self._cache.add((*names, "write"), usage.cache_write_tokens)
            if usage.doubt is not None:
                self._doubts.add((names[1], usage.doubt))

    def time_chunks(self, model: HostedModel | None) -> Callable[[float], None]:
        """Return what to tell the seconds between two chunks of a stream of `model`."""
        provider, name = ("", "") if model is None else (model.provider, model.name)
        observe, labels = self._per_chunk.observe, ("chat", provider, name)
        return lambda seconds: observe(labels, seconds)


class Metrics:
    """All series of one gateway process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counts(
            "waypost_requests",
            "Requests of callers by endpoint and HTTP status, refused ones included.",
            "endpoint",
            "status",
        )
        self._calls = CallSeries()
        self._overhead = Distribution(
            "waypost_gateway_overhead_seconds",
            "Seconds that a request spent in the gateway before the call to the provider.",
            _OVERHEAD,
        )
        self.registry.register(self._overhead)
        self._cost = self._counts(
            "waypost_cost_usd",
            "USD charged for answers, and for calls given up before one.",
            "model",
            "provider",
        )
        self._decisions = self._counts(
            "waypost_router_decisions",
            "Requests by chosen model, router version and reason of the choice.",
            *("model", "version", "reason"),
        )
        self._failures = self._counts(
            "waypost_router_failures",
            "Requests that the default model answered because the router failed.",
            "reason",
        )
        self._fallbacks = self._counts(
            "waypost_fallbacks",
            "Failed calls to a provider after which another model was tried.",
            *("model", "provider", "error_type"),
        )
        self._refusals = self._counts(
            "waypost_refused_requests",
            "Requests refused before a model was called, by error class.",
            "error_type",
        )
        self._grades = self._counts(
            "waypost_grades", "Grades received for answers.", "model", "source"
        )
        self._scores = self._counts(
            "waypost_grade_scores",
            "Sum of the scores of these grades, each from 0 to 1.",
            "model",
            "source",
        )
        self._expectations = Expectations()
        for family in (*self._calls.families, *self._expectations.families):
            self.registry.register(family)
        self._versions: dict[str, None] = {}

    def decided(self, plan: RoutePlan) -> None:
        """Count one decision."""
        version = plan.router_version or ""
        self._admit(version)
        self._decisions.add((plan.models[0].name, version, plan.reason))
        if plan.reason in (ROUTER_MISSING, ROUTER_FAILED):
            self._failures.add((plan.reason,))

    def fell_back(self, model: HostedModel, error: str) -> None:
        """Count one upstream failure that another model makes good."""
        self._fallbacks.add((model.name, model.provider, error))

    def refused(self, error: str) -> None:
        """Count one turn refused before a model was chosen."""
        self._refusals.add((error,))

    def time_chunks(self, model: HostedModel | None) -> Callable[[float], None]:
        """Return what to tell the seconds between two chunks of a stream of `model`."""
        return self._calls.time_chunks(model)

    def answered(self, turn: TurnRecord) -> None:
        """Count one turn that reached a model."""
        self._calls.add(turn)
        paid = (turn.served_model or "", turn.provider or "")
        self._cost.add(paid, turn.cost_nusd / NUSD_PER_USD)
        if turn.gateway_s is not None:
            self._overhead.observe((), turn.gateway_s, turn.trace_id)
        if turn.router_version is not None and turn.error is None:
            self._expectations.compare_cost(turn)

    def forwarded(
        self,
        names: tuple[str, str, str],
        error: str | None,
        latency_s: float,
        usage: Usage | None,
        cost_nusd: int,
    ) -> None:
        """Count one call that is no turn.

        Args:
            names: Of the operation, the provider, and the model or endpoint.
        """
        self._calls.add_call(names, error, latency_s, usage)
        self._cost.add((names[2], names[1]), cost_nusd / NUSD_PER_USD)

    def gave_up(self, model: HostedModel, cost_nusd: int) -> None:
        """Count what calls may cost that were given up."""
        self._cost.add((model.name, model.provider), cost_nusd / NUSD_PER_USD)

    def graded(self, answer: KnownAnswer, grade: GradeRecord) -> None:
        """Count one grade of an answer."""
        labels = (answer.model, grade.source)
        self._grades.add(labels)
        self._scores.add(labels, grade.score)
        if answer.router_version is not None and answer.quality is not None:
            self._admit(answer.router_version)
            self._expectations.compare_quality(answer.router_version, answer.quality, grade.score)

    def observe(self, read: Read) -> None:
        """Expose at every scrape what `read` then returns."""
        self.registry.register(Reading(read))

    def render(self, worker: str | None = None, *, is_open: bool = False) -> bytes:
        """Render all series, as `series.render` does; `worker` becomes a label of each."""
        return render(self.registry, worker, is_open=is_open)

    async def page(self, *, is_open: bool = False) -> bytes:
        """Render all series in a thread, so that no request waits for it."""
        text = await asyncio.to_thread(self.render, is_open=is_open)
        return text + END if is_open else text

    def _admit(self, version: str) -> None:
        """Make room for another router's series by dropping those of the oldest one."""
        if version in self._versions:
            return
        self._versions[version] = None
        if len(self._versions) > MAX_VERSIONS:
            oldest = next(iter(self._versions))
            del self._versions[oldest]
            for counts in (self._decisions, *self._expectations.families):
                counts.forget(oldest)

    def _counts(self, name: str, meaning: str, *labels: str) -> Counts:
        family = Counts(name, meaning, labels)
        self.registry.register(family)
        return family
