"""What is slow, what fails, and what is about to."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from helm.dashboards.frame import Row, frame
from helm.dashboards.panels import (
    GRAPH_HEIGHT,
    GREEN,
    ORANGE,
    QUARTER,
    RED,
    THIRD,
    PanelBuilder,
    graph,
    number,
    spread,
    states,
)
from helm.dashboards.queries import FAILED, Query, at, highest, per_second, quantile, total

OVERHEAD = "waypost_gateway_overhead_seconds"


def build() -> Dashboard:
    """Make the dashboard to open when an alert comes."""
    return frame(
        "reliability",
        "Waypost / Reliability",
        "What is slow, what fails, and what is about to.",
        "waypost_build_info",
        [
            Row("Errors", _errors()),
            Row("The gateway's own time", _overhead()),
            Row("Providers", _providers()),
            Row("Evaluation log", _log()),
            Row("What serves", _serving()),
        ],
    )


def _errors() -> list[PanelBuilder]:
    failed = f"({per_second('waypost_requests_total', FAILED)} or vector(0))"
    return [
        graph(
            "Failed requests",
            "Share with a status of 500 or more: what the alert ErrorBudgetBurns watches, "
            "whose budget is 0.1 %.",
            "percentunit",
            Query(f"{failed} / {per_second('waypost_requests_total')}", "failed"),
            width=THIRD,
        ),
        graph(
            "Refused before a model was chosen",
            "By what refused: keys, budgets, malformed requests.",
            "reqps",
            Query(per_second("waypost_refused_requests_total", by="error_type"), "{{error_type}}"),
            is_stacked=True,
            width=THIRD,
        ),
        graph(
            "Turns that ended badly",
            "By model and cause; a caller that left counts here.",
            "reqps",
            Query(
                per_second(
                    "gen_ai_client_operation_duration_seconds_count",
                    'error_type!=""',
                    by="gen_ai_request_model, error_type",
                ),
                "{{gen_ai_request_model}}: {{error_type}}",
            ),
            is_stacked=True,
            width=THIRD,
        ),
    ]


def _overhead() -> list[PanelBuilder]:
    return [
        graph(
            "From request to upstream call",
            "Authentication, routing, budgets.",
            "s",
            *(Query(quantile(q, OVERHEAD), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)),
        ),
        spread(
            "From request to upstream call, all of them",
            "How many requests took how long.",
            "s",
            Query(per_second(f"{OVERHEAD}_bucket", by="le"), "{{le}}"),
        ),
    ]


def _providers() -> list[PanelBuilder]:
    return [
        states(
            "Circuit breakers",
            "An open one sends no requests: other models answer meanwhile.",
            Query(
                highest("waypost_provider_breaker_open", by="provider, model"),
                "{{provider}} {{model}}",
            ),
            {"0": ("closed", GREEN), "1": ("open", RED)},
        ),
        graph(
            "Calls under way",
            "Those above a provider's `max_concurrency` wait.",
            "short",
            Query(total("waypost_provider_calls_in_flight", by="provider"), "{{provider}}"),
            Query(total("waypost_provider_calls_waiting", by="provider"), "{{provider}}, waiting"),
        ),
        graph(
            "Fallbacks",
            "Upstream failures after which another model was asked.",
            "reqps",
            Query(
                per_second("waypost_fallbacks_total", by="model, error_type"),
                "{{model}}: {{error_type}}",
            ),
        ),
        graph(
            "Retries",
            "Calls repeated to the same provider.",
            "reqps",
            Query(per_second("waypost_provider_retries_total", by="provider"), "{{provider}}"),
        ),
    ]


def _log() -> list[PanelBuilder]:
    rows = {
        "recorded": "waypost_log_rows_recorded_total",
        "written": "waypost_log_rows_written_total",
        "spooled": "waypost_log_rows_spooled_total",
    }
    dropped = "waypost_log_rows_dropped_total"
    return [
        graph(
            "Rows",
            "Recorded by requests, written to the database, spooled to disk while it is down.",
            "wps",
            *(Query(per_second(counter), name) for name, counter in rows.items()),
            width=QUARTER,
        ),
        graph(
            "Dropped rows",
            "Lost for learning; the answers went out all the same.",
            "wps",
            Query(per_second(dropped, by="reason"), "{{reason}}"),
            width=QUARTER,
        ),
        graph(
            "Queue",
            "Share of its places that are taken, in the fullest worker.",
            "percentunit",
            Query(f"max(waypost_log_queue_depth{at()} / waypost_log_queue_limit{at()})", "taken"),
            most=1.0,
            width=QUARTER,
        ),
        graph(
            "Spool",
            "Share of its place on disk, in the fullest replica: rows wait there until the "
            "database is back, and are dropped when it is full.",
            "percentunit",
            Query(
                f"max(waypost_log_spool_bytes{at()} / waypost_log_spool_limit_bytes{at()})",
                "taken",
            ),
            most=1.0,
            width=QUARTER,
        ),
    ]


def _serving() -> list[PanelBuilder]:
    without = per_second("waypost_router_decisions_total", 'reason=~"router_missing|router_failed"')
    return [
        states(
            "Router version",
            "Replicas follow within seconds: two at once for longer is a replica without the file.",
            Query(total("waypost_router_info", by="version"), "{{version}}"),
            {},
        ),
        number(
            "Replicas and workers",
            "That were scraped.",
            Query(f"count(waypost_build_info{at()})"),
            height=GRAPH_HEIGHT,
        ),
        number(
            "Artefacts refused",
            "Routers and policies that were damaged or of another encoder; the old ones serve on.",
            Query(
                f"sum(waypost_router_artifacts_rejected_total{at()})"
                f" + sum(waypost_policy_artifacts_rejected_total{at()})"
            ),
            steps=[(1, ORANGE)],
            below=GREEN,
            height=GRAPH_HEIGHT,
        ),
        number(
            "Turns without a router",
            "Per second: the default model answered because the router failed or was missing.",
            Query(f"{without} or vector(0)"),
            "reqps",
            steps=[(0.001, ORANGE)],
            below=GREEN,
            height=GRAPH_HEIGHT,
        ),
    ]
