"""Series that the request path adds to and a scrape reads.

The event loop's thread alone adds, to plain numbers, and a scrape in another thread copies them.
The client library's own counters take a lock for each number: three times as much CPU per turn.
"""

import re
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, Exemplar, HistogramMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from gateway.telemetry.families import Read

Labels = tuple[str, ...]
VERSION: Final = "version"
_SAMPLE: Final = re.compile(rb"^([A-Za-z_:][A-Za-z0-9_:]*)(\{)?", re.MULTILINE)
_FAMILY: Final = re.compile(rb"^(?=# HELP )", re.MULTILINE)
END: Final = b"# EOF\n"
"""What OpenMetrics wants at the end of a page."""


class Counts(Collector):
    """A family of counters; `name` goes without ``_total``."""

    def __init__(self, name: str, meaning: str, labels: Labels = ()) -> None:
        self.values: defaultdict[Labels, float] = defaultdict(float)
        self._name = name
        self._meaning = meaning
        self._labels = labels

    def add(self, labels: Labels, amount: float = 1.0) -> None:
        """Add to the counter of these values of the labels."""
        self.values[labels] += amount

    def forget(self, version: str) -> None:
        """Drop the counters of a router that serves no more."""
        place = self._labels.index(VERSION)
        for labels in [labels for labels in self.values if labels[place] == version]:
            del self.values[labels]

    def collect(self) -> Iterable[Metric]:
        """Read all counters."""
        family = CounterMetricFamily(self._name, self._meaning, labels=self._labels)
        # A copy is one step: a list of items can be interrupted by a thread that adds one.
        for labels, value in self.values.copy().items():
            family.add_metric(labels, value)
        yield family


class Distribution(Collector):
    """A family of histograms, each bucket with the trace of the value that came last.

    Args:
        bounds: Upper bounds of the buckets, ascending; one without a bound follows.
    """

    def __init__(
        self, name: str, meaning: str, bounds: Sequence[float], labels: Labels = ()
    ) -> None:
        self._name = name
        self._meaning = meaning
        self._bounds = tuple(bounds)
        self._names = (*(str(float(bound)) for bound in bounds), "+Inf")
        self._labels = labels
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        self._exemplars: dict[tuple[Labels, int], Exemplar] = {}
        if not labels:
            self._begin(())

    def observe(self, labels: Labels, value: float, trace_id: str | None = None) -> None:
        """Count `value` in the histogram of these values of the labels."""
        counts = self._counts.get(labels) or self._begin(labels)
        place = bisect_left(self._bounds, value)
        counts[place] += 1
        self._sums[labels] += value
        if trace_id is not None:
            of_trace = Exemplar({"trace_id": trace_id}, value, time.time())
            self._exemplars[labels, place] = of_trace

    def collect(self) -> Iterable[Metric]:
        """Read all histograms."""
        family = HistogramMetricFamily(self._name, self._meaning, labels=self._labels)
        for labels, counts in self._counts.copy().items():
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
            below = 0
            for place, (name, count) in enumerate(zip(self._names, counts, strict=True)):
                below += count
                last = self._exemplars.get((labels, place))
                buckets.append((name, below) if last is None else (name, below, last))
            family.add_metric(labels, buckets, self._sums[labels])
        yield family

    def _begin(self, labels: Labels) -> list[int]:
        self._sums[labels] = 0.0
        counts = self._counts[labels] = [0] * len(self._names)
        return counts


class Reading(Collector):
    """Families that other parts keep the numbers of: read when scraped, and not before."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Read them."""
        return self._read()


def render(
    registry: CollectorRegistry, worker: str | None = None, *, is_open: bool = False
) -> bytes:
    """Write all series in Prometheus' text format.

    Args:
        worker: Put on every series as a label; None leaves it out.
        is_open: Write OpenMetrics, which has exemplars, without its `END`.
    """
    text: bytes = (openmetrics.generate_latest if is_open else generate_latest)(registry)
    text = text.removesuffix(END)
    if worker is None:
        return text
    label = b'worker="' + worker.encode() + b'"'

    def labelled(found: re.Match[bytes]) -> bytes:
        name, has_labels = found[1], found[2]
        return name + b"{" + label + (b"," if has_labels else b"}")

    return _SAMPLE.sub(labelled, text)


def write_family(family: Metric, *, is_open: bool = False) -> bytes:
    """Write one family in the same format."""
    registry = CollectorRegistry()
    registry.register(Reading(lambda: [family]))
    return render(registry, is_open=is_open)


def merge(pages: Iterable[bytes]) -> bytes:
    """Put several workers' pages together: the format wants each family in one piece."""
    heads: dict[bytes, bytes] = {}
    samples: dict[bytes, list[bytes]] = {}
    for page in pages:
        for block in filter(None, _FAMILY.split(page)):
            lines = block.splitlines(keepends=True)
            name = lines[0].split(b" ", 3)[2]
            heads.setdefault(name, b"".join(lines[:2]))
            samples.setdefault(name, []).extend(lines[2:])
    return b"".join(head + b"".join(samples[name]) for name, head in heads.items())
