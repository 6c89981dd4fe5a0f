import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.telemetry import worker_metrics
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.worker_metrics import WorkerMetrics
from tests.fakes.patience import PATIENCE_S
from tests.fakes.scrape import Scrape
from tests.fakes.turns import make_turn


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a Unix socket's may have 107 characters."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_metrics, "ANSWER_TIMEOUT_S", PATIENCE_S)


def counting(requests: int) -> Metrics:
    metrics = Metrics()
    metrics.requests.add(("chat", "200"), requests)
    return metrics


async def test_each_worker_s_page_holds_the_series_of_all(folder):
    workers = [WorkerMetrics(number, 2, folder) for number in range(2)]
    async with AsyncExitStack() as stack:
        for number, worker in enumerate(workers):
            await stack.enter_async_context(worker.answering(counting(number + 5).render))
        pages = [Scrape.parse((await worker.page()).decode()) for worker in workers]

    for page in pages:
        assert page.sum("waypost_requests_total", worker="0") == 5
        assert page.sum("waypost_requests_total", worker="1") == 6
        assert page.sum("waypost_worker_up") == 2


async def test_the_page_of_all_is_openmetrics_where_that_is_asked_for(folder):
    workers = [WorkerMetrics(number, 2, folder) for number in range(2)]
    async with AsyncExitStack() as stack:
        for number, worker in enumerate(workers):
            metrics = counting(number + 5)
            metrics.answered(make_turn(trace_id=f"{number}a" * 16, latency_s=0.4))
            await stack.enter_async_context(worker.answering(metrics.render))
        page = (await workers[0].page(is_open=True)).decode()

    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert sum(one.value for one in families["waypost_requests"].samples) == 11
    duration = families["gen_ai_client_operation_duration_seconds"].samples
    traces = {
        (one.labels["worker"], one.exemplar.labels["trace_id"]) for one in duration if one.exemplar
    }
    assert traces == {("0", "0a" * 16), ("1", "1a" * 16)}


async def test_a_worker_that_does_not_answer_is_left_out_and_said_to_be_down(folder):
    alone = WorkerMetrics(1, 3, folder)
    async with alone.answering(counting(5).render):
        page = Scrape.parse((await alone.page()).decode())

    assert page.sum("waypost_requests_total") == 5
    assert page.sum("waypost_worker_up", worker="1") == 1
    assert page.sum("waypost_worker_up", worker="0") == 0


async def test_a_socket_left_behind_by_a_killed_worker_is_taken_over(folder):
    worker = WorkerMetrics(0, 1, folder)
    (folder / "0.sock").touch()
    async with worker.answering(counting(5).render):
        page = Scrape.parse((await worker.page()).decode())

    assert page.sum("waypost_requests_total") == 5
