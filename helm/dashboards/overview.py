"""Is everything all right, and what does it cost?"""

from grafana_foundation_sdk.models.dashboard import Dashboard

from helm.dashboards.frame import Row, frame
from helm.dashboards.panels import (
    GREEN,
    ORANGE,
    QUARTER,
    RED,
    THIRD,
    PanelBuilder,
    graph,
    number,
)
from helm.dashboards.queries import (
    FAILED,
    RATE,
    Query,
    at,
    highest,
    increase,
    per_second,
    quantile,
    total,
)

DURATION = "gen_ai_client_operation_duration_seconds"
FIRST_CHUNK = "gen_ai_client_operation_time_to_first_chunk_seconds"
MODEL = "gen_ai_request_model"
SAVED = (
    f"1 - {increase('waypost_router_predicted_cost_usd_total')}"
    f" / ({increase('waypost_router_best_single_cost_usd_total')} > 0)"
)


def build() -> Dashboard:
    """Make the dashboard that a wall shows."""
    return frame(
        "overview",
        "Waypost / Overview",
        "Does the gateway work, and what does it cost?",
        "waypost_build_info",
        [
            Row("Now", _now()),
            Row("Traffic", _traffic()),
            Row("Cost", _cost()),
            Row("Processes", _machine()),
        ],
    )


def _now() -> list[PanelBuilder]:
    failed = f"({increase('waypost_requests_total', FAILED)} or vector(0))"
    return [
        number(
            "Requests",
            "Requests per second at all endpoints, refused ones included.",
            Query(per_second("waypost_requests_total")),
            "reqps",
        ),
        number(
            "Answered",
            "Share of requests that did not end with status 500 or above. Errors of callers "
            "(4xx) and callers that left do not count as failures.",
            Query(f"1 - {failed} / {increase('waypost_requests_total')}"),
            "percentunit",
            steps=[(0.99, ORANGE), (0.999, GREEN)],
            below=RED,
            decimals=2,
        ),
        number(
            "Gateway's own time, p99",
            "Time from the request to the call to the provider: authentication, routing, budgets.",
            Query(quantile(0.99, "waypost_gateway_overhead_seconds")),
            "s",
            steps=[(0.02, ORANGE), (0.05, RED)],
            below=GREEN,
        ),
        number(
            "Cost",
            "USD charged in this time range.",
            Query(increase("waypost_cost_usd_total")),
            "currencyUSD",
            decimals=2,
        ),
        number(
            "Saved by routing",
            "Share of cost saved against always asking the best single model. Both costs are the "
            "router's predictions for the same turns.",
            Query(SAVED),
            "percentunit",
            decimals=1,
        ),
        number(
            "Router",
            "Version of the active router. If replicas serve different versions, see the "
            "dashboard Reliability.",
            Query(highest("waypost_router_info", by="version"), "{{version}}"),
            shows_name=True,
        ),
    ]


def _traffic() -> list[PanelBuilder]:
    return [
        graph(
            "Requests by status",
            "Requests per second by HTTP status. 499: the caller left before the answer began.",
            "reqps",
            Query(per_second("waypost_requests_total", by="status"), "{{status}}"),
            is_stacked=True,
            width=THIRD,
        ),
        graph(
            "Turns by model",
            "Turns per second by the model chosen by router or caller. Fallbacks count for the "
            "model chosen first.",
            "reqps",
            Query(per_second("waypost_router_decisions_total", by="model"), "{{model}}"),
            is_stacked=True,
            width=THIRD,
        ),
        graph(
            "Time to the whole answer",
            "Time from the request to the last byte of the answer, all models, failures included.",
            "s",
            *(
                Query(quantile(share, DURATION), f"p{share:.0%}"[:-1])
                for share in (0.5, 0.95, 0.99)
            ),
            width=THIRD,
        ),
        graph(
            "Time to the first chunk, p95",
            "Time from the request to the first event of a stream, by model.",
            "s",
            Query(quantile(0.95, FIRST_CHUNK, by=MODEL), "{{gen_ai_request_model}}"),
            width=THIRD,
        ),
        graph(
            "Tokens",
            "Tokens per second, as the providers report them.",
            "short",
            Query(
                per_second("gen_ai_client_token_usage_sum", by="gen_ai_token_type"),
                "{{gen_ai_token_type}} per second",
            ),
            width=THIRD,
        ),
        graph(
            "Fallbacks",
            "Failed calls per second after which another model was tried.",
            "reqps",
            Query(
                per_second("waypost_fallbacks_total", by="model, error_type"),
                "{{model}}: {{error_type}}",
            ),
            width=THIRD,
        ),
    ]


def _cost() -> list[PanelBuilder]:
    hourly = f"3600 * sum by (model) (rate(waypost_cost_usd_total{at()}{RATE}))"
    each = f"{per_second('waypost_cost_usd_total')} / {per_second(DURATION + '_count')}"
    return [
        graph(
            "Cost by model",
            "USD per hour at the current rate, by model.",
            "currencyUSD",
            Query(hourly, "{{model}}"),
            is_stacked=True,
        ),
        graph("Cost of a turn", "Mean over all models.", "currencyUSD", Query(each, "mean")),
    ]


def _machine() -> list[PanelBuilder]:
    return [
        graph(
            "CPU",
            "CPU cores in use, by replica.",
            "short",
            Query(per_second("process_cpu_seconds_total", by="instance"), "{{instance}}"),
            width=QUARTER,
        ),
        graph(
            "Memory",
            "Resident memory, by replica.",
            "bytes",
            Query(total("process_resident_memory_bytes", by="instance"), "{{instance}}"),
            width=QUARTER,
        ),
        graph(
            "Open files",
            "Open files and sockets, by replica.",
            "short",
            Query(total("process_open_fds", by="instance"), "{{instance}}"),
            width=QUARTER,
        ),
        graph(
            "Queries that needed no encoding",
            "Share of queries whose embedding was in the cache.",
            "percentunit",
            Query(_cache_hits(), "cached"),
            most=1.0,
            width=QUARTER,
        ),
    ]


def _cache_hits() -> str:
    hits = per_second("waypost_embedding_cache_hits_total")
    misses = per_second("waypost_embedding_cache_misses_total")
    return f"{hits} / ({hits} + {misses})"
