import threading

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.series import Counts, Distribution, Reading, merge, render


def page(*families, worker: str | None = None) -> bytes:
    registry = CollectorRegistry()
    for family in families:
        registry.register(family)
    return render(registry, worker)


def samples(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_a_counter_adds_up_by_label():
    counts = Counts("turns", "Turns.", ("model",))
    counts.add(("a",))
    counts.add(("a",), 2)
    counts.add(("b",), 0.5)

    assert samples(page(counts)) == {("turns_total", ("a",)): 3, ("turns_total", ("b",)): 0.5}


def test_a_counter_of_a_version_can_be_forgotten():
    counts = Counts("turns", "Turns.", ("model", "version"))
    counts.add(("v1", "v2"))
    counts.add(("a", "v1"))
    counts.forget("v1")

    assert samples(page(counts)) == {("turns_total", ("v1", "v2")): 1}


@pytest.mark.parametrize(
    ("value", "below_one", "below_two"), [(0.0, 1, 1), (1.0, 1, 1), (1.5, 0, 1), (2.5, 0, 0)]
)
def test_a_value_is_counted_in_every_bucket_that_holds_it(value, below_one, below_two):
    times = Distribution("time", "Time.", (1, 2))
    times.observe((), value)

    assert samples(page(times)) == {
        ("time_bucket", ("1.0",)): below_one,
        ("time_bucket", ("2.0",)): below_two,
        ("time_bucket", ("+Inf",)): 1,
        ("time_count", ()): 1,
        ("time_sum", ()): value,
    }


def test_a_histogram_without_labels_is_there_before_its_first_value():
    assert samples(page(Distribution("time", "Time.", (1,))))[("time_count", ())] == 0


def test_a_worker_s_name_is_put_on_every_sample():
    counts = Counts("turns", "Turns {so far}.", ("model",))
    counts.add(('a "quoted" {name}',))
    text = page(counts, Distribution("time", "Time.", (1,)), worker="3")

    families = text_string_to_metric_families(text.decode())
    assert {s.labels["worker"] for family in families for s in family.samples} == {"3"}
    assert samples(text)[("turns_total", ("3", 'a "quoted" {name}'))] == 1


def test_pages_of_workers_are_merged_family_by_family():
    def of_worker(name: str, turns: int) -> bytes:
        counts, times = Counts("turns", "Turns."), Distribution("time", "Time.", (1,))
        counts.add((), turns)
        return page(counts, times, worker=name)

    merged = merge([of_worker("0", 2), of_worker("1", 5)])

    assert merged.count(b"# TYPE turns_total counter") == 1
    found = samples(merged)
    assert (found[("turns_total", ("0",))], found[("turns_total", ("1",))]) == (2, 5)
    assert found[("time_bucket", ("+Inf", "1"))] == 0


def test_what_others_keep_is_read_at_each_scrape():
    kept = [1.0]
    reading = Reading(lambda: [CounterMetricFamily("rows", "Rows.", value=kept[0])])
    registry = CollectorRegistry()
    registry.register(reading)
    kept[0] = 2.0

    assert samples(render(registry)) == {("rows_total", ()): 2.0}


def test_series_that_grow_under_a_scrape_do_not_break_it():
    counts = Counts("turns", "Turns.", ("model",))
    times = Distribution("time", "Time.", (1,), ("model",))

    def add() -> None:
        for number in range(20_000):
            counts.add((str(number),))
            times.observe((str(number % 100),), number)

    adding = threading.Thread(target=add)
    adding.start()
    while adding.is_alive():
        page(counts, times)
    adding.join()

    assert len(samples(page(counts))) == 20_000
