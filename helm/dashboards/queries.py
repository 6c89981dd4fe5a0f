"""The pieces of PromQL that all dashboards share."""

from dataclasses import dataclass
from typing import Final

RATE: Final = "[$__rate_interval]"
RANGE: Final = "[$__range]"
"""The whole time range that the user looks at."""
FAILED: Final = 'status=~"5.."'
"""Matches requests that ended by our fault or a provider's."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: PromQL.
        legend: What its series are called; ``{{label}}`` is replaced.
        ref_id: What transformations call it.
    """

    expr: str
    legend: str = ""
    ref_id: str | None = None


def at(*matchers: str) -> str:
    """Select what the user chose at the top of the dashboard, and these matchers."""
    return "{" + ",".join(('job=~"$job"', 'instance=~"$instance"', *matchers)) + "}"


def per_second(counter: str, *matchers: str, by: str = "") -> str:
    """Rate of a counter over all replicas and workers."""
    return f"sum{_by(by)}(rate({counter}{at(*matchers)}{RATE}))"


def increase(counter: str, *matchers: str, by: str = "") -> str:
    """What a counter grew by in the time range."""
    return f"sum{_by(by)}(increase({counter}{at(*matchers)}{RANGE}))"


def quantile(share: float, histogram: str, *matchers: str, by: str = "") -> str:
    """Quantile of a histogram over all replicas and workers."""
    within = ",".join(part for part in ("le", by) if part)
    return f"histogram_quantile({share}, {per_second(histogram + '_bucket', *matchers, by=within)})"


def highest(gauge: str, *matchers: str, by: str = "") -> str:
    """Highest value of a gauge that every replica and worker reports for itself."""
    return f"max{_by(by)}({gauge}{at(*matchers)})"


def total(gauge: str, *matchers: str, by: str = "") -> str:
    """Sum of a gauge over all replicas and workers."""
    return f"sum{_by(by)}({gauge}{at(*matchers)})"


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""
