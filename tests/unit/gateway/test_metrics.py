import pytest

from gateway.metrics import Metrics
from gateway.types import Usage


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_counts_a_turn_under_opentelemetry_s_names(metrics: Metrics) -> None:
    metrics.answered(
        provider="p",
        model="m",
        error=None,
        usage=Usage(10, 5),
        cost_nusd=2_000_000_000,
        latency_s=1.0,
        first_byte_s=0.5,
        gateway_s=0.001,
    )
    text = metrics.render().decode()
    labels = 'gen_ai_operation_name="chat",gen_ai_provider_name="p",gen_ai_request_model="m"'
    assert f'gen_ai_client_operation_duration_seconds_count{{error_type="",{labels}}} 1.0' in text
    assert f"time_to_first_chunk_seconds_count{{{labels}}} 1.0" in text
    assert f'gen_ai_client_token_usage_sum{{{labels},gen_ai_token_type="input"}} 10.0' in text
    assert 'waypost_cost_usd_total{model="m",provider="p"} 2.0' in text
    assert "waypost_gateway_overhead_seconds_count 1.0" in text


def test_counts_a_failed_turn_without_tokens(metrics: Metrics) -> None:
    metrics.answered(
        provider="p",
        model="m",
        error="ProviderTimeout",
        usage=None,
        cost_nusd=0,
        latency_s=1.0,
        first_byte_s=None,
        gateway_s=None,
    )
    text = metrics.render().decode()
    assert 'error_type="ProviderTimeout"' in text
    assert "token_usage_sum" not in text


def test_counts_decisions_failures_fallbacks_and_refusals(metrics: Metrics) -> None:
    metrics.decided("m", "router")
    metrics.router_failed("router_missing")
    metrics.fell_back("m", "ProviderTimeout")
    metrics.refused("Unauthenticated")
    text = metrics.render().decode()
    assert 'waypost_router_decisions_total{model="m",reason="router"} 1.0' in text
    assert 'waypost_router_failures_total{reason="router_missing"} 1.0' in text
    assert 'waypost_fallbacks_total{error_type="ProviderTimeout",model="m"} 1.0' in text
    assert 'waypost_refused_requests_total{error_type="Unauthenticated"} 1.0' in text


def test_reads_numbers_that_others_keep_when_scraped(metrics: Metrics) -> None:
    kept = {"log_rows_written": 1}
    metrics.observe_counters(lambda: kept)
    metrics.observe_gauges(lambda: {"log_queue_depth": 3})
    kept["log_rows_written"] = 2
    text = metrics.render().decode()
    assert "waypost_log_rows_written_total 2.0" in text
    assert "waypost_log_queue_depth 3.0" in text
