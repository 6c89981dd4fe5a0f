"""The latest frontier measured on the log: kept beside the routers, published as gauges."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from gateway.artifacts.trust import open_regular
from gateway.settings.config import GatewaySettings
from router_models.evaluation.logged_frontier import LoggedFrontier

NAME: Final = "frontier.json"
OPERATING_POINTS: Final = 9
"""Between the least and the most that a profile pays for quality."""
_BOUNDS: Final = {"estimate": "value", "low": "low", "high": "high"}

_log = logging.getLogger(__name__)


class FrontierFile:
    """One file; whoever scrapes gets what it holds, and nothing where it is missing or damaged."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._read_at_ns: int | None = None
        self._held: LoggedFrontier | None = None

    def write(self, frontier: LoggedFrontier) -> None:
        """Replace the file, all of it or nothing."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(frontier.to_json(), encoding="utf-8")
        partial.replace(self._path)

    def read(self) -> LoggedFrontier | None:
        """Return what the file holds; read anew only where it was replaced."""
        try:
            changed_at_ns = self._path.stat().st_mtime_ns
            if changed_at_ns != self._read_at_ns:
                self._read_at_ns, self._held = changed_at_ns, None
                with open_regular(self._path) as file:
                    self._held = LoggedFrontier.from_json(file.read())
        except FileNotFoundError:
            self._read_at_ns = self._held = None
        except (OSError, ValueError) as error:
            _log.warning("%s cannot be read, so its metrics are missing: %s", self._path, error)
        return self._held

    def collect(self) -> Iterable[Metric]:
        """Yield a gauge per figure, router and operating point."""
        held = self.read()
        labels = ("version", "role", "willingness_to_pay_usd")
        quality = GaugeMetricFamily(
            "waypost_router_frontier_quality",
            "Mean quality that a router would reach, estimated from the evaluation log.",
            labels=(*labels, "bound"),
        )
        cost = GaugeMetricFamily(
            "waypost_router_frontier_cost_usd",
            "Mean cost per query in USD with that router, estimated from the evaluation log.",
            labels=(*labels, "bound"),
        )
        answers = GaugeMetricFamily(
            "waypost_router_frontier_effective_answers",
            "Number of answers of its own that the estimate is worth, by the logged propensities.",
            labels=labels,
        )
        measured = GaugeMetricFamily(
            "waypost_router_frontier_measured_timestamp_seconds",
            "Unix time at which `waypost frontier` made these estimates; no series before.",
        )
        if held is not None:
            measured.add_metric((), held.measured_at.timestamp())
        for curve in () if held is None else held.curves:
            for point in curve.points:
                names = (curve.version, curve.role, f"{point.willingness_to_pay_usd:.4g}")
                for bound, field in _BOUNDS.items():
                    quality.add_metric((*names, bound), getattr(point.quality, field))
                    cost.add_metric((*names, bound), getattr(point.cost_usd, field))
                answers.add_metric(names, point.effective_answers)
        yield from (quality, cost, answers, measured)


def operating_points(settings: GatewaySettings) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Spread willingness to pay, USD per unit of quality, over what the profiles pay."""
    paid = [profile.willingness_to_pay_usd for profile in settings.all_profiles.values()]
    return np.geomspace(min(paid), max(paid), OPERATING_POINTS)


def prices_of(settings: GatewaySettings) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return quality per USD at the operating points: one over the willingness to pay."""
    return 1.0 / operating_points(settings)[::-1]
