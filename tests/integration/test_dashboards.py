"""Every query of every dashboard and alert, asked of a Prometheus that watches a busy gateway."""

import math
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.fakes.alerts import RULES, read_rules
from tests.fakes.dashboards import Target, annotations, filled, read_dashboards, targets
from tests.fakes.observed import Observed, observed

pytestmark = [pytest.mark.xdist_group("dashboards"), pytest.mark.asyncio(loop_scope="module")]
WINDOW, SPAN = "60s", "60s"
QUERIES = [
    target
    for name, dashboard in read_dashboards().items()
    for panel in dashboard["panels"]
    for target in targets(name, panel, WINDOW, SPAN)
]
METRIC = re.compile(r"\b(?:waypost|gen_ai|process)_\w+")


def labels(legend: str) -> set[str]:
    return set(re.findall(r"\{\{(\w+)\}\}", legend))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Observed]:
    """A gateway that was busy for some seconds, during which one of its providers was down."""
    async with observed(tmp_path_factory.mktemp("watched"), RULES) as watched:
        for is_failing in (False, True, False):
            watched.upstream.is_failing = is_failing
            await watched.traffic.flow(3.0, pause_s=0.05, requests=100)
        yield watched


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def answers(watched: Observed) -> dict[Target, list[dict[str, Any]]]:
    """What Prometheus says to every query."""
    return {query: await watched.prometheus.instant(query.expr) for query in QUERIES}


@pytest.mark.parametrize("dashboard", read_dashboards())
async def test_every_query_of_a_dashboard_returns_data(answers, dashboard):
    without = {
        f"{query.panel}/{query.ref_id}: {query.expr}": [
            series["value"] for series in answers[query]
        ]
        for query in QUERIES
        if query.dashboard == dashboard
        and not any(math.isfinite(float(series["value"][1])) for series in answers[query])
    }

    assert without == {}


@pytest.mark.parametrize("dashboard", read_dashboards())
async def test_the_legends_of_a_dashboard_name_labels_that_the_series_have(answers, dashboard):
    without = [
        f"{query.panel}/{query.ref_id}: {query.legend}"
        for query in QUERIES
        if query.dashboard == dashboard
        and not all(labels(query.legend) <= series["metric"].keys() for series in answers[query])
    ]

    assert without == []


async def test_a_router_that_began_to_serve_is_marked_on_every_dashboard_of_gateways(watched):
    marks = {name: filled(expr, WINDOW, SPAN) for name, expr in annotations().items()}

    assert marks.keys() == read_dashboards().keys() - {"federation"}
    for expr in marks.values():
        (series,) = await watched.prometheus.instant(expr)
        assert series["metric"]["version"]
        assert await watched.prometheus.instant(expr.replace("offset 1m", "")) == []


async def test_prometheus_evaluates_every_alert(watched: Observed):
    rules = await watched.prometheus.rules()

    assert {rule["name"] for rule in rules} == {rule["alert"] for rule in read_rules()}
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] == "err"} == {}


async def test_every_metric_that_an_alert_watches_exists(watched: Observed):
    watched_for = {name for rule in read_rules() for name in METRIC.findall(rule["expr"])}

    assert watched_for - await watched.prometheus.metric_names() == set()


async def test_no_alert_waits_for_a_quantile_beyond_the_last_bucket(watched: Observed):
    quantiles = [rule["expr"] for rule in read_rules() if "histogram_quantile" in rule["expr"]]

    for expr in quantiles:
        buckets = re.findall(r"\w+_bucket", expr)[0]
        found = await watched.prometheus.instant(f'group by (le) ({buckets}{{le!="+Inf"}})')
        last = max(float(series["metric"]["le"]) for series in found)
        assert float(expr.rpartition(">")[2]) < last, expr
