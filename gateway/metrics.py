"""Prometheus metrics: OpenTelemetry's GenAI names where it has them, waypost_* where not.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/ (status: Development).
No label carries a key, a team or a caller's text: the set of series is bounded by the settings.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.types import NUSD_PER_USD, Usage

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_OVERHEAD = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
Family = TypeVar("Family", Counter, Histogram)
_MODEL = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


class Metrics:
    """All series of one gateway, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._children: dict[tuple[Counter | Histogram, tuple[str, ...]], Counter | Histogram] = {}
        self._duration = Histogram(
            "gen_ai_client_operation_duration_seconds",
            "From request to the answer's last byte.",
            (*_MODEL, "error_type"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._first_chunk = Histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "From request to the first event of a stream.",
            _MODEL,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._tokens = Histogram(
            "gen_ai_client_token_usage",
            "Tokens per call.",
            (*_MODEL, "gen_ai_token_type"),
            buckets=_TOKENS,
            registry=self.registry,
        )
        self._overhead = Histogram(
            "waypost_gateway_overhead_seconds",
            "Time spent in the gateway before the upstream call.",
            buckets=_OVERHEAD,
            registry=self.registry,
        )
        self._cost = Counter(
            "waypost_cost_usd", "Charged cost.", ("model", "provider"), registry=self.registry
        )
        self._decisions = Counter(
            "waypost_router_decisions",
            "Turns by chosen model and reason.",
            ("model", "reason"),
            registry=self.registry,
        )
        self._failures = Counter(
            "waypost_router_failures",
            "Turns for which the router could not choose; the default model served.",
            ("reason",),
            registry=self.registry,
        )
        self._fallbacks = Counter(
            "waypost_fallbacks",
            "Upstream failures after which another model was tried.",
            ("model", "error_type"),
            registry=self.registry,
        )
        self._refusals = Counter(
            "waypost_refused_requests",
            "Requests refused before a model was chosen.",
            ("error_type",),
            registry=self.registry,
        )

    def answered(
        self,
        *,
        provider: str,
        model: str,
        error: str | None,
        usage: Usage | None,
        cost_nusd: int,
        latency_s: float,
        first_byte_s: float | None,
        gateway_s: float | None,
    ) -> None:
        """Count one turn that reached a model."""
        names = ("chat", provider, model)
        self._child(self._duration, *names, error or "").observe(latency_s)
        if first_byte_s is not None:
            self._child(self._first_chunk, *names).observe(first_byte_s)
        if usage is not None:
            self._child(self._tokens, *names, "input").observe(usage.prompt_tokens)
            self._child(self._tokens, *names, "output").observe(usage.completion_tokens)
        self._child(self._cost, model, provider).inc(cost_nusd / NUSD_PER_USD)
        if gateway_s is not None:
            self._overhead.observe(gateway_s)

    def _child(self, family: Family, *labels: str) -> Family:
        """Return the series of `labels`; kept, since the library takes 3 µs to find one."""
        known = self._children.get((family, labels))
        if known is None:
            known = self._children[family, labels] = family.labels(*labels)
        return cast("Family", known)

    def decided(self, model: str, reason: str) -> None:
        """Count one decision."""
        self._child(self._decisions, model, reason).inc()

    def router_failed(self, reason: str) -> None:
        """Count one turn the router could not choose for."""
        self._failures.labels(reason).inc()

    def fell_back(self, model: str, error: str) -> None:
        """Count one upstream failure that another model makes good."""
        self._fallbacks.labels(model, error).inc()

    def refused(self, error: str) -> None:
        """Count one request refused before a model was chosen."""
        self._refusals.labels(error).inc()

    def observe_counters(self, read: Callable[[], Mapping[str, float]]) -> None:
        """Expose the counters that `read` returns at every scrape, named ``waypost_<key>``."""
        self.registry.register(_Reader(read, CounterMetricFamily))

    def observe_gauges(self, read: Callable[[], Mapping[str, float]]) -> None:
        """Expose the gauges that `read` returns at every scrape, named ``waypost_<key>``."""
        self.registry.register(_Reader(read, GaugeMetricFamily))

    def render(self) -> bytes:
        """Render all series in Prometheus' text format."""
        return generate_latest(self.registry)


class _Reader(Collector):
    """Reads plain numbers that other parts keep, when scraped and not before."""

    def __init__(
        self,
        read: Callable[[], Mapping[str, float]],
        family: type[CounterMetricFamily] | type[GaugeMetricFamily],
    ) -> None:
        self._read = read
        self._family = family

    def collect(self) -> Iterable[Metric]:
        for name, value in self._read().items():
            yield self._family(f"waypost_{name}", name.replace("_", " ") + ".", value=value)
