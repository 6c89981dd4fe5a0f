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
        "What is slow, what fails, and what is about to fail.",
        "waypost_build_info",
        [
            Row("Errors", _errors()),
            Row("The gateway's own time", _overhead()),
            Row("Providers", _providers()),
            Row("Connections and memory", _held()),
            Row("Evaluation log", _log()),
            Row("Routers and replicas", _serving()),
        ],
    )


def _errors() -> list[PanelBuilder]:
    failed = f"({per_second('waypost_requests_total', FAILED)} or vector(0))"
    return [
        graph(
            "Failed requests",
            "Share of requests with status 500 or above. The ErrorBudgetBurns alerts allow 0.1 % "
            "a month.",
            "percentunit",
            Query(f"{failed} / {per_second('waypost_requests_total')}", "failed"),
            width=THIRD,
        ),
        graph(
            "Refused before a model was chosen",
            "Requests per second refused before a model was called, by error class.",
            "reqps",
            Query(per_second("waypost_refused_requests_total", by="error_type"), "{{error_type}}"),
            is_stacked=True,
            width=THIRD,
        ),
        graph(
            "Failed turns",
            "Turns per second that failed, by model and error class. Callers that left count here.",
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
            "Time spent in the gateway: authentication, routing, budgets.",
            "s",
            *(Query(quantile(q, OVERHEAD), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)),
        ),
        spread(
            "From request to upstream call, distribution",
            "Requests per second by the time spent in the gateway.",
            "s",
            Query(per_second(f"{OVERHEAD}_bucket", by="le"), "{{le}}"),
        ),
    ]


def _providers() -> list[PanelBuilder]:
    return [
        states(
            "Circuit breakers",
            "A model with an open breaker gets no requests; other models answer in its place.",
            Query(
                highest("waypost_provider_breaker_open", by="provider, model"),
                "{{provider}} {{model}}",
            ),
            {"0": ("closed", GREEN), "1": ("open", RED)},
        ),
        graph(
            "Calls in progress",
            "Calls to providers in progress, and calls that wait because `max_concurrency` is "
            "reached.",
            "short",
            Query(total("waypost_provider_calls_in_flight", by="provider"), "{{provider}}"),
            Query(total("waypost_provider_calls_waiting", by="provider"), "{{provider}}, waiting"),
        ),
        graph(
            "Fallbacks",
            "Failed calls per second after which another model was tried.",
            "reqps",
            Query(
                per_second("waypost_fallbacks_total", by="model, error_type"),
                "{{model}}: {{error_type}}",
            ),
        ),
        graph(
            "Retries",
            "Attempts per second repeated at the same provider.",
            "reqps",
            Query(per_second("waypost_provider_retries_total", by="provider"), "{{provider}}"),
        ),
    ]


def _held() -> list[PanelBuilder]:
    memory = "waypost_body_memory"
    return [
        graph(
            "Open connections",
            "Fill level of the connections of each port, in the fullest process. When full, the "
            "connection that has been idle longest is closed.",
            "percentunit",
            Query(
                f"max by (port) (waypost_connections_open{at()} / waypost_connections_limit{at()})",
                "{{port}}",
            ),
            most=1.0,
            width=QUARTER,
        ),
        graph(
            "Refused connections",
            "Connections per second refused: headers too large, too slow, too many of one "
            "address, or no place left.",
            "cps",
            Query(per_second("waypost_connections_refused_total", by="reason"), "{{reason}}"),
            is_stacked=True,
            width=QUARTER,
        ),
        graph(
            "Memory of bodies",
            "Fill level of the memory for requests and answers under way, in the fullest process.",
            "percentunit",
            Query(f"max({memory}_held_bytes{at()} / {memory}_limit_bytes{at()})", "taken"),
            most=1.0,
            width=QUARTER,
        ),
        graph(
            "Refused for memory",
            "Requests per second refused because their key, or all together, held too much.",
            "reqps",
            Query(per_second(f"{memory}_refused_total", by="reason"), "{{reason}}"),
            is_stacked=True,
            width=QUARTER,
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
            "Rows per second: recorded by requests, written to the database, spooled to disk "
            "while it is down.",
            "wps",
            *(Query(per_second(counter), name) for name, counter in rows.items()),
            width=QUARTER,
        ),
        graph(
            "Dropped rows",
            "Rows per second that were lost. The answers were delivered; no router learns from "
            "them.",
            "wps",
            Query(per_second(dropped, by="reason"), "{{reason}}"),
            width=QUARTER,
        ),
        graph(
            "Queue",
            "Fill level of the queue in memory, in the fullest worker. When full, rows are "
            "dropped.",
            "percentunit",
            Query(f"max(waypost_log_queue_depth{at()} / waypost_log_queue_limit{at()})", "taken"),
            most=1.0,
            width=QUARTER,
        ),
        graph(
            "Spool",
            "Fill level of the spool on disk, in the fullest replica. Rows wait there while the "
            "database is down, and are dropped when it is full.",
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
            "Replicas by router version. Two versions for more than seconds: a replica cannot "
            "read the new file.",
            Query(total("waypost_router_info", by="version"), "{{version}}"),
            {},
        ),
        number(
            "Replicas and workers",
            "Processes that Prometheus scraped.",
            Query(f"count(waypost_build_info{at()})"),
            height=GRAPH_HEIGHT,
        ),
        number(
            "Artefacts refused",
            "Routers and policies refused as damaged or made for another encoder. The earlier "
            "ones still serve.",
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
            "Turns per second that the default model answered because the router failed or was "
            "missing.",
            Query(f"{without} or vector(0)"),
            "reqps",
            steps=[(0.001, ORANGE)],
            below=GREEN,
            height=GRAPH_HEIGHT,
        ),
    ]
