"""Metrics that other parts keep the numbers of, as families that a scrape reads."""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import Final

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from budget.in_flight import InFlight
from gateway.artifacts.active import ActiveRouter
from gateway.artifacts.store import ArtifactStore
from gateway.budgets.definitions import SCOPE_KINDS
from gateway.budgets.opening import Budgets
from gateway.budgets.turn_budgets import TurnBudgets
from gateway.deployments import every_place
from gateway.embedded.process import EmbeddedPool
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.providers.base import Provider
from gateway.routing.encoders import QueryEmbedder
from gateway.routing.exploring import Exploring
from gateway.settings.config import EvaluationLogSettings
from gateway.telemetry.connection_counts import ConnectionCounts
from gateway.telemetry.families import Read, counter, counters, gauge, gauges, info
from gateway.types import HostedModel

CALLS: Final = {
    "in_flight": "Calls to the provider in progress.",
    "waiting": "Calls that wait because `max_concurrency` of the provider is reached.",
    "limit": "Most calls in progress at a time: `max_concurrency` of the provider.",
}


def read_log(log: EvaluationLog, settings: EvaluationLogSettings) -> Read:
    """Say what became of the evaluation log's rows."""

    def read() -> Iterator[Metric]:
        kept = log.counters
        yield counter(
            "waypost_log_rows_recorded",
            "Rows accepted into the queue of the evaluation log.",
            kept.recorded,
        )
        yield counter("waypost_log_rows_written", "Rows written to the database.", kept.written)
        yield counter(
            "waypost_log_rows_spooled",
            "Rows written to the spool on disk because the database was down.",
            kept.spooled,
        )
        yield counter(
            "waypost_log_rows_replayed", "Rows moved from the spool to the database.", kept.replayed
        )
        yield counter(
            "waypost_log_rows_pruned",
            "Rows deleted because they were older than `retention_days`.",
            kept.pruned,
        )
        yield counters(
            "waypost_log_rows_dropped",
            "Rows lost: queue full, row refused by the database, or not written at the shutdown.",
            "reason",
            {
                "queue": kept.dropped_queue,
                "row": kept.dropped_rows,
                "close": kept.dropped_at_close,
            },
        )
        yield counter("waypost_log_outages", "Times the database became unreachable.", kept.outages)
        yield gauge(
            "waypost_log_queue_depth", "Rows that wait in memory to be written.", log.queue_depth
        )
        yield gauge(
            "waypost_log_queue_limit",
            "Most rows that may wait in memory: `queue_rows`.",
            settings.queue_rows,
        )
        yield gauge(
            "waypost_log_spool_bytes",
            "Bytes in the spool, of all processes that share it.",
            log.spool_bytes,
        )
        yield gauge(
            "waypost_log_spool_limit_bytes",
            "Most bytes in the spool: `spool_max_bytes`.",
            settings.spool_max_bytes,
        )
        yield gauge(
            "waypost_log_database_down",
            "1 if the last write to the database failed, else 0.",
            log.is_database_down,
        )

    return read


def read_embedder(embedder: QueryEmbedder) -> Read:
    """Say what the cache of embeddings saves."""

    def read() -> Iterator[Metric]:
        yield counter(
            "waypost_embedding_cache_hits",
            "Queries whose embedding was in the cache.",
            embedder.cache_hits,
        )
        yield counter(
            "waypost_embedding_cache_misses",
            "Queries whose embedding had to be computed.",
            embedder.cache_misses,
        )

    return read


def read_exploration(exploring: Exploring) -> Read:
    """Say what exploration was expected to lose."""

    def read() -> Iterator[Metric]:
        budget = exploring.budget
        yield counter(
            "waypost_exploration_regret_usd",
            "USD that exploring choices were expected to lose since the start, of "
            "`routing.exploration.max_regret_usd_per_day`; 0 without such a limit.",
            0.0 if budget is None else budget.spent_usd,
        )

    return read


def read_router(router: ActiveRouter, store: ArtifactStore) -> Read:
    """Say which router serves, and which one waits."""

    def read() -> Iterator[Metric]:
        current, candidate = router.current, newest_candidate(store)
        serving = trained_at_unix_s = waiting = None
        if current is not None:
            seal = current.manifest
            serving = {"version": current.version, "kind": seal.kind, "encoder": seal.encoder_id}
            trained_at_unix_s = seal.created_at.timestamp()
        if candidate is not None:
            waiting = {"version": candidate, "kind": candidate.partition("-")[0]}
        name = "waypost_router"
        yield gauge(f"{name}_loaded", "1 if a router is active, else 0.", current is not None)
        yield counter(
            f"{name}_swaps", "Times another router became active since the start.", router.swaps
        )
        yield counter(
            f"{name}_artifacts_rejected",
            "Router artefacts refused: damaged, not signed by a trusted key, or made for another "
            "encoder.",
            router.rejected,
        )
        yield info(f"{name}_info", "1 for the active router; no series without one.", serving)
        yield gauge(
            f"{name}_created_timestamp_seconds",
            "Unix time at which the active router was trained.",
            trained_at_unix_s,
        )
        yield info(
            f"{name}_candidate_info",
            "1 for the newest router that was assessed here and is not active.",
            waiting,
        )

    return read


def newest_candidate(store: ArtifactStore) -> str | None:
    """Return the version judged last of those that were kept and do not serve."""
    judged = [
        (assessment.assessed_at, version)
        for version, assessment in store.assessments()
        if assessment.outcome == "candidate"
    ]
    return max(judged)[1] if judged else None


def read_policy(turn_budgets: TurnBudgets) -> Read:
    """Say which budget policy serves, and what turn budgets allot."""

    def read() -> Iterator[Metric]:
        policy, kept = turn_budgets.policy, turn_budgets.counters
        current = policy.current
        yield gauge(
            "waypost_policy_loaded",
            "1 if a trained budget policy is active, else 0.",
            current is not None,
        )
        yield counter(
            "waypost_policy_artifacts_rejected",
            "Policy artefacts refused: damaged, not signed by a trusted key, or unknown.",
            policy.rejected,
        )
        serving = None if current is None else {"version": current.version}
        yield info(
            "waypost_policy_info",
            "1 for the active budget policy; no series while the built-in one serves.",
            serving,
        )
        yield counter("waypost_turn_budget_turns", "Requests with a turn budget.", kept.turns)
        yield counter(
            "waypost_turn_budget_allotted_tokens",
            "Completion tokens allotted to requests with a turn budget.",
            kept.allotted_tokens,
        )
        yield counter(
            "waypost_turn_budget_used_tokens",
            "Completion tokens used by requests with a turn budget.",
            kept.used_tokens,
        )
        yield counter(
            "waypost_turn_budget_cut_off", "Answers cut off by their turn budget.", kept.cut_off
        )
        yield counter(
            "waypost_turn_budget_policy_failures",
            "Requests whose tokens the built-in policy allotted because the active one failed.",
            kept.policy_failures,
        )

    return read


BUDGET_COUNTERS: Final = {
    "reserved": "Reservations made.",
    "settled": "Reservations settled: the actual cost was charged.",
    "refused_for_outage": "Requests refused because the budget store was down.",
    "served_unchecked": "Requests served without a check because the budget store was down.",
    "store_failures": "Failed calls to the budget store.",
    "leases_expired": "Reservations that expired unsettled and were charged in full.",
    "leases_renewed": "Renewals of reservations of long requests.",
    "leases_lost": "Reservations that expired while their request was still running.",
}
"""By the name of the metric, which is that of the count too."""


def read_budgets(budgets: Budgets) -> Read:
    """Say what the ledger holds and refuses, and how its store does."""
    ledger, book = budgets.ledger, budgets.book

    def read() -> Iterator[Metric]:
        counts = ledger.counters
        refused = {str(kind): counts.refused.get(kind, 0) for kind in SCOPE_KINDS}
        name = "waypost_budget"
        for count, meaning in BUDGET_COUNTERS.items():
            yield counter(f"{name}_{count}", meaning, getattr(counts, count))
        yield counters(
            f"{name}_refused",
            "Requests refused by a limit, by the scope of the limit.",
            "scope",
            refused,
        )
        yield counter(
            f"{name}_definition_read_failures",
            "Failed reads of the budget definitions; the last known ones stay in force.",
            book.failed_reads,
        )
        yield gauge(
            f"{name}_store_up",
            "1 if the budget store answered its last call, else 0.",
            not ledger.has_store_failed,
        )
        is_split = budgets.sole is not None and budgets.sole.problem is not None
        yield gauge(
            f"{name}_counted_apart",
            "1 if another gateway counts the same budgets in a memory of its own, else 0.",
            is_split,
        )
        yield gauge(f"{name}_running", "Reservations not settled yet.", ledger.running)
        yield gauge(
            f"{name}_unsettled", "Settlements that wait for the budget store.", ledger.unsettled
        )
        yield gauge(
            f"{name}_definitions_stale",
            "1 if the budget definitions could not be read lately, else 0.",
            book.is_stale,
        )

    return read


def read_providers(
    providers: Mapping[str, Provider],
    models: Mapping[str, HostedModel],
    embedded: EmbeddedPool | None,
    other_models: Mapping[str, HostedModel] = MappingProxyType({}),
) -> Read:
    """Say how the upstreams do: breakers by model, places by provider."""

    def read() -> Iterator[Metric]:
        conditions = {name: provider.condition() for name, provider in providers.items()}
        by = ["provider", "model"]
        is_open = GaugeMetricFamily(
            "waypost_provider_breaker_open",
            "1 while the model's circuit breaker is open, until a call succeeds again, else 0.",
            labels=by,
        )
        opened = CounterMetricFamily(
            "waypost_provider_breaker_opened",
            "Times the circuit breaker of the model opened.",
            labels=by,
        )
        for model in every_place((*models.values(), *other_models.values())):
            breaker = conditions[model.provider].breakers.get(model.upstream_name)
            labels = [model.provider, model.name]
            is_open.add_metric(labels, breaker is not None and breaker.is_open)
            opened.add_metric(labels, 0 if breaker is None else breaker.times_opened)
        yield is_open
        yield opened
        for name, meaning in CALLS.items():
            values = {provider: getattr(c, name) for provider, c in conditions.items()}
            yield gauges(f"waypost_provider_calls_{name}", meaning, "provider", values)
        retries = {provider: c.retries for provider, c in conditions.items()}
        yield counters(
            "waypost_provider_retries", "Attempts repeated after a failure.", "provider", retries
        )
        refused = CounterMetricFamily(
            "waypost_provider_calls_refused",
            "Calls that got no place: the line was `full`, or a place came too `late`.",
            labels=["provider", "reason"],
        )
        for provider, condition in conditions.items():
            for reason, number in condition.refused.items():
                refused.add_metric([provider, reason], number)
        yield refused
        is_ready = None if embedded is None else embedded.is_ready
        restarts = None if embedded is None else embedded.restarts
        yield gauge(
            "waypost_embedded_ready",
            "1 if the embedded models answer, else 0; no series without them.",
            is_ready,
        )
        yield counter(
            "waypost_embedded_restarts",
            "Times the process of the embedded models was restarted.",
            restarts,
        )

    return read


def read_connections(ports: Mapping[str, ConnectionCounts]) -> Read:
    """Say who is connected to which port, and who was turned away."""

    def read() -> Iterator[Metric]:
        name = "waypost_connections"
        counted = {port: counts.open for port, counts in ports.items()}
        limits = {port: counts.limit for port, counts in ports.items()}
        yield gauges(f"{name}_open", "Open connections, by port: public or admin.", "port", counted)
        yield gauges(
            f"{name}_limit",
            "Most open connections of the port: `max_connections`, or fewer where the process may "
            "open fewer files.",
            "port",
            limits,
        )
        refused = CounterMetricFamily(
            f"{name}_refused",
            "Connections refused before a request was served, by port and reason.",
            labels=["port", "reason"],
        )
        for port, counts in ports.items():
            for reason, number in counts.refused.items():
                refused.add_metric([port, reason], number)
        yield refused

    return read


def read_memory(memory: InFlight) -> Read:
    """Say how much memory requests and answers hold, and who was refused for it."""

    def read() -> Iterator[Metric]:
        name = "waypost_body_memory"
        yield gauge(f"{name}_held_bytes", "Memory held for bodies under way.", memory.held)
        yield gauge(
            f"{name}_limit_bytes",
            "Most memory held for bodies under way: `body_memory_bytes`.",
            memory.limit,
        )
        yield counters(
            f"{name}_refused",
            "Requests refused because no memory was left for their bodies: of the key, or of all.",
            "reason",
            {"key": memory.refused_for_share, "all": memory.refused_for_limit},
        )

    return read


def read_process() -> Read:
    """Say which release runs, and what its process uses."""
    process = ProcessCollector(registry=None)
    release = {"version": version("waypost")}

    def read() -> Iterator[Metric]:
        yield info("waypost_build_info", "1 for the running release.", release)
        yield from process.collect()

    return read
