"""Metrics of the grades that the gateway gives by itself."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from gateway.grading.desk import GradingDesk
from gateway.telemetry.families import Read, counter, gauge


def read_grading(desk: GradingDesk | None) -> Read:
    """Say what the gateway graded by itself; nothing where no grader is on."""

    def read() -> Iterator[Metric]:
        if desk is None:
            return
        kept, name = desk.counters, "waypost_grading"
        grades = CounterMetricFamily(
            f"{name}_grades",
            "Grades that the gateway gave by itself, by source and grader.",
            labels=["source", "grader"],
        )
        scores = CounterMetricFamily(
            f"{name}_scores",
            "Sum of the scores of these grades, each from 0 to 1.",
            labels=["source", "grader"],
        )
        for labels, number in kept.grades.copy().items():
            grades.add_metric(list(labels), number)
            scores.add_metric(list(labels), kept.scores[labels])
        yield grades
        yield scores
        yield counter(f"{name}_offered", "Answered turns handed to the graders.", kept.offered)
        yield counter(
            f"{name}_dropped",
            "Answered turns that some grader did not look at, for want of room or time.",
            kept.dropped,
        )
        yield counter(f"{name}_failures", "Times a grader failed, and gave no grade.", kept.failed)
        yield gauge(f"{name}_waiting", "Turns in the longest line of a grader.", desk.waiting)
        yield gauge(
            f"{name}_memory_bytes", "Memory of the turns that wait to be graded.", desk.memory.held
        )

    return read
