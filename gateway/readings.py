"""Metrics that other parts keep the numbers of, as families that a scrape reads."""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Final

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.artifacts.active import ActiveRouter
from gateway.artifacts.store import ArtifactStore
from gateway.budgets.definitions import SCOPE_KINDS
from gateway.budgets.opening import Budgets
from gateway.budgets.turn_budgets import TurnBudgets
from gateway.embedded.process import EmbeddedPool
from gateway.evaluation_log.evaluation_log import EvaluationLog
from gateway.providers.base import Provider
from gateway.routing.encoders import QueryEmbedder
from gateway.settings.config import EvaluationLogSettings
from gateway.telemetry.families import Read, counter, counters, gauge, gauges, info
from gateway.types import HostedModel

CALLS: Final = {
    "in_flight": "Calls under way.",
    "waiting": "Calls that wait for a place.",
    "limit": "Calls under way at most.",
}


def read_log(log: EvaluationLog, settings: EvaluationLogSettings) -> Read:
    """Say what became of the evaluation log's rows."""

    def read() -> Iterator[Metric]:
        kept = log.counters
        yield counter("waypost_log_rows_recorded", "Rows taken.", kept.recorded)
        yield counter("waypost_log_rows_written", "Rows in the database.", kept.written)
        yield counter("waypost_log_rows_spooled", "Rows put in the spool.", kept.spooled)
        yield counter("waypost_log_rows_replayed", "Rows written out of it.", kept.replayed)
        yield counter("waypost_log_rows_pruned", "Rows deleted for their age.", kept.pruned)
        yield counters(
            "waypost_log_rows_dropped",
            "Rows that are lost.",
            "reason",
            {
                "queue": kept.dropped_queue,
                "row": kept.dropped_rows,
                "close": kept.dropped_at_close,
            },
        )
        yield counter("waypost_log_outages", "Times the database became unreachable.", kept.outages)
        yield gauge("waypost_log_queue_depth", "Rows in memory.", log.queue_depth)
        yield gauge("waypost_log_queue_limit", "Rows in memory at most.", settings.queue_rows)
        yield gauge("waypost_log_spool_bytes", "Bytes in the spool.", log.spool_bytes)
        yield gauge(
            "waypost_log_spool_limit_bytes", "Bytes in it at most.", settings.spool_max_bytes
        )
        yield gauge("waypost_log_database_down", "The last write failed.", log.is_database_down)

    return read


def read_embedder(embedder: QueryEmbedder) -> Read:
    """Say what the cache of embeddings saves."""

    def read() -> Iterator[Metric]:
        yield counter("waypost_embedding_cache_hits", "Queries remembered.", embedder.cache_hits)
        yield counter("waypost_embedding_cache_misses", "Queries encoded.", embedder.cache_misses)

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
        yield gauge(f"{name}_loaded", "A router serves.", current is not None)
        yield counter(f"{name}_swaps", "Routers put in place.", router.swaps)
        yield counter(f"{name}_artifacts_rejected", "Routers refused.", router.rejected)
        yield info(f"{name}_info", "The router that serves.", serving)
        yield gauge(f"{name}_created_timestamp_seconds", "When it was trained.", trained_at_unix_s)
        yield info(
            f"{name}_candidate_info",
            "The newest router that was judged and does not serve.",
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
        yield gauge("waypost_policy_loaded", "A policy of the store serves.", current is not None)
        yield counter("waypost_policy_artifacts_rejected", "Policies refused.", policy.rejected)
        serving = None if current is None else {"version": current.version}
        yield info("waypost_policy_info", "The policy that serves.", serving)
        yield counter("waypost_turn_budget_turns", "Turns with a turn budget.", kept.turns)
        yield counter(
            "waypost_turn_budget_allotted_tokens", "What they may use.", kept.allotted_tokens
        )
        yield counter("waypost_turn_budget_used_tokens", "What they used.", kept.used_tokens)
        yield counter("waypost_turn_budget_cut_off", "Those stopped by it.", kept.cut_off)
        yield counter(
            "waypost_turn_budget_policy_failures",
            "Turns the built-in policy shared out, as the active one failed.",
            kept.policy_failures,
        )

    return read


def read_budgets(budgets: Budgets) -> Read:
    """Say what the ledger holds and refuses, and how its store does."""
    ledger, book = budgets.ledger, budgets.book

    def read() -> Iterator[Metric]:
        kept = ledger.counters
        refused = {str(kind): kept.refused.get(kind, 0) for kind in SCOPE_KINDS}
        name = "waypost_budget"
        yield counter(f"{name}_reserved", "Requests that hold budget.", kept.reserved)
        yield counter(f"{name}_settled", "Requests charged.", kept.settled)
        yield counters(f"{name}_refused", "Requests that a limit refused.", "scope", refused)
        yield counter(
            f"{name}_refused_for_outage", "Requests refused unchecked.", kept.refused_for_outage
        )
        yield counter(
            f"{name}_served_unchecked", "Requests served unchecked.", kept.served_unchecked
        )
        yield counter(f"{name}_store_failures", "Calls of the store failed.", kept.store_failures)
        yield counter(f"{name}_leases_expired", "Leases found dead.", kept.expired)
        yield counter(f"{name}_leases_renewed", "Leases prolonged.", kept.renewed)
        yield counter(f"{name}_leases_lost", "Leases ended too early.", kept.lost_leases)
        yield counter(
            f"{name}_definition_read_failures", "The last known budgets hold.", book.failed_reads
        )
        yield gauge(
            f"{name}_store_up", "The store answered its last call.", not ledger.has_store_failed
        )
        yield gauge(f"{name}_running", "Open reservations.", ledger.running)
        yield gauge(f"{name}_unsettled", "Settlements that wait.", ledger.unsettled)
        yield gauge(f"{name}_definitions_stale", "Budgets not fresh.", book.is_stale)

    return read


def read_providers(
    providers: Mapping[str, Provider],
    models: Mapping[str, HostedModel],
    embedded: EmbeddedPool | None,
) -> Read:
    """Say how the upstreams do: breakers by model, places by provider."""

    def read() -> Iterator[Metric]:
        conditions = {name: provider.condition() for name, provider in providers.items()}
        by = ["provider", "model"]
        is_open = GaugeMetricFamily("waypost_provider_breaker_open", "It is paused.", labels=by)
        opened = CounterMetricFamily(
            "waypost_provider_breaker_opened", "Times it was paused.", labels=by
        )
        for model in models.values():
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
        yield counters("waypost_provider_retries", "Attempts repeated.", "provider", retries)
        is_ready = None if embedded is None else embedded.is_ready
        restarts = None if embedded is None else embedded.restarts
        yield gauge("waypost_embedded_ready", "The embedded models answer.", is_ready)
        yield counter("waypost_embedded_restarts", "Times their process was replaced.", restarts)

    return read


def read_process() -> Read:
    """Say which release runs, and what its process uses."""
    process = ProcessCollector(registry=None)
    release = {"version": version("waypost")}

    def read() -> Iterator[Metric]:
        yield info("waypost_build_info", "The release that runs.", release)
        yield from process.collect()

    return read
