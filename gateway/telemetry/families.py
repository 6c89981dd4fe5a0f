"""Families of metrics, made at each scrape of numbers that other parts keep."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

Read = Callable[[], Iterable[Metric]]


def counter(name: str, meaning: str, value: float | None) -> Metric:
    """Make a family of one counter, or none; `name` goes without ``_total``."""
    return CounterMetricFamily(name, meaning, value=value)


def gauge(name: str, meaning: str, value: float | None) -> Metric:
    """Make a family of one gauge, or none."""
    return GaugeMetricFamily(name, meaning, value=value)


def counters(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    """Make a family of counters, by the values of one label."""
    family = CounterMetricFamily(name, meaning, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def gauges(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    """Make a family of gauges, by the values of one label."""
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def info(name: str, meaning: str, labels: Mapping[str, str] | None) -> Metric:
    """Make a gauge of 1 whose labels are what is told, or none where there is nothing to tell."""
    if labels is None:
        return GaugeMetricFamily(name, meaning)
    family = GaugeMetricFamily(name, meaning, labels=list(labels))
    family.add_metric(list(labels.values()), 1.0)
    return family
