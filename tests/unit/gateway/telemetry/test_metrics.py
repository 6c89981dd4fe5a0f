from dataclasses import replace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.candidate_records import NO_CANDIDATES
from gateway.evaluation_log.grades import GradeRecord, KnownAnswer
from gateway.routing.plan import RoutePlan
from gateway.telemetry.metrics import MAX_VERSIONS, Metrics
from gateway.types import HostedModel, ModelPrice, Usage
from tests.fakes.turns import make_turn

MODEL = HostedModel("m", "p", "m-upstream", ModelPrice(0, 0))
PLAN = RoutePlan(
    models=(MODEL,),
    candidates=NO_CANDIDATES,
    propensity=1.0,
    reason="router",
    profile=None,
    willingness_to_pay_usd=None,
    router_version="r-1",
    familiarity=None,
    encoder_id=None,
    embedding=None,
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def figures(metrics: Metrics) -> dict[str, float]:
    """Return each sample under its name and the values of its labels, as the family orders them."""
    return {
        ":".join((sample.name, *sample.labels.values())): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
    }


def test_counts_a_turn_under_opentelemetry_s_names(metrics: Metrics) -> None:
    turn = make_turn(
        served_model="m", provider="p", usage=Usage(10, 5), cost_nusd=2_000_000_000, latency_s=1.0
    )
    metrics.answered(turn)
    found = figures(metrics)
    assert found["gen_ai_client_operation_duration_seconds_sum:chat:p:m:"] == 1.0
    assert found["gen_ai_client_operation_time_to_first_chunk_seconds_count:chat:p:m"] == 1
    assert found["gen_ai_client_token_usage_sum:chat:p:m:input"] == 10
    assert found["gen_ai_client_token_usage_sum:chat:p:m:output"] == 5
    assert found["waypost_cost_usd_total:m:p"] == 2.0
    assert found["waypost_gateway_overhead_seconds_count"] == 1


async def test_openmetrics_names_the_trace_that_came_last_into_each_bucket(
    metrics: Metrics,
) -> None:
    for trace, latency_s in (("1a" * 16, 0.4), ("2b" * 16, 0.41), ("3c" * 16, 700.0)):
        metrics.answered(make_turn(trace_id=trace, latency_s=latency_s))
    metrics.answered(make_turn(trace_id=None, latency_s=20.0))
    page = (await metrics.page(is_open=True)).decode()

    (family,) = (
        each
        for each in text_string_to_metric_families(page)
        if each.name == "gen_ai_client_operation_duration_seconds"
    )
    marked = [one.exemplar for one in family.samples if one.exemplar]
    assert [(one.labels, one.value) for one in marked] == [
        ({"trace_id": "2b" * 16}, 0.41),
        ({"trace_id": "3c" * 16}, 700.0),
    ]
    assert "trace_id" not in metrics.render().decode()


def test_counts_a_failed_turn_without_tokens(metrics: Metrics) -> None:
    failed = make_turn(
        error="ProviderTimeout", usage=None, first_byte_s=None, gateway_s=None, cost_nusd=0
    )
    metrics.answered(failed)
    text = metrics.render().decode()
    assert 'error_type="ProviderTimeout"' in text
    assert "token_usage_sum" not in text
    assert "first_chunk_seconds_sum" not in text
    assert "waypost_router_predicted_cost_usd_total{" not in text


def test_counts_answers_whose_usage_is_doubtful(metrics: Metrics) -> None:
    for usage in (Usage(10, 5, doubt="too_few"), Usage(10, 5, doubt="too_few"), Usage(10, 5)):
        metrics.answered(make_turn(served_model="m", provider="p", usage=usage))
    metrics.forwarded(("embeddings", "p", "m"), None, 1.0, Usage(10, 0, doubt="missing"), 7)
    found = figures(metrics)
    assert found["waypost_doubtful_usage_total:p:too_few"] == 2
    assert found["waypost_doubtful_usage_total:p:missing"] == 1


def test_counts_what_prompt_caches_held_and_took(metrics: Metrics) -> None:
    for usage in (Usage(10, 5, cached_tokens=4), Usage(10, 5, 3, cache_write_tokens=2)):
        metrics.answered(make_turn(served_model="m", provider="p", usage=usage))
    metrics.answered(make_turn(served_model="n", provider="p", usage=Usage(10, 5)))
    found = figures(metrics)
    assert found["waypost_prompt_cache_tokens_total:chat:p:m:read"] == 7
    assert found["waypost_prompt_cache_tokens_total:chat:p:m:write"] == 2
    assert "waypost_prompt_cache_tokens_total:chat:p:n:read" not in found


def test_counts_decisions_failures_fallbacks_and_refusals(metrics: Metrics) -> None:
    metrics.decided(PLAN)
    metrics.decided(replace(PLAN, router_version=None, reason="named"))
    metrics.decided(replace(PLAN, reason="router_missing"))
    metrics.fell_back(MODEL, "ProviderTimeout")
    metrics.refused("BudgetExhausted")
    found = figures(metrics)
    assert found["waypost_router_decisions_total:m:r-1:router"] == 1
    assert found["waypost_router_decisions_total:m::named"] == 1
    assert found["waypost_router_failures_total:router_missing"] == 1
    assert found["waypost_fallbacks_total:m:p:ProviderTimeout"] == 1
    assert found["waypost_refused_requests_total:BudgetExhausted"] == 1


def test_times_the_chunks_of_a_stream(metrics: Metrics) -> None:
    time_chunk = metrics.time_chunks(MODEL)
    time_chunk(0.02)
    time_chunk(0.03)
    found = figures(metrics)
    name = "gen_ai_client_operation_time_per_output_chunk_seconds"
    assert found[f"{name}_count:chat:p:m"] == 2
    assert found[f"{name}_sum:chat:p:m"] == 0.05


def test_only_the_latest_routers_have_series(metrics: Metrics) -> None:
    for number in range(MAX_VERSIONS + 3):
        metrics.decided(replace(PLAN, router_version=f"r-{number}"))
        metrics.answered(make_turn(router_version=f"r-{number}"))
    text = metrics.render().decode()
    assert 'version="r-2"' not in text
    assert text.count("waypost_router_decisions_total{") == MAX_VERSIONS
    assert 'waypost_router_best_single_cost_usd_total{version="r-3"}' in text


def test_a_grade_is_counted_for_the_model_and_held_against_the_prediction(
    metrics: Metrics,
) -> None:
    grade = GradeRecord("g", "a", "t", "me", "judge", 0.25, None, 0.0)
    metrics.graded(KnownAnswer("t", "m", "r-1", 0.57), grade)
    metrics.graded(KnownAnswer("t", "m", None, None), grade)
    found = figures(metrics)
    assert found["waypost_grades_total:m:judge"] == 2
    assert found["waypost_grade_scores_total:m:judge"] == 0.5
    assert found["waypost_router_graded_answers_total:r-1:0.5"] == 1
    assert found["waypost_router_graded_predicted_quality_total:r-1:0.5"] == 0.57
    assert found["waypost_router_graded_observed_quality_total:r-1:0.5"] == 0.25
