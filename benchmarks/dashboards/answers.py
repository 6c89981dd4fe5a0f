"""What Prometheus answers to the queries of one panel."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.fakes.dashboards import Target, targets
from tests.fakes.prometheus import Prometheus


@dataclass(frozen=True)
class Look:
    """The times that a picture shows.

    Attributes:
        step_s: Between two points.
        window: For ``$__rate_interval``.
    """

    start_unix_s: float
    end_unix_s: float
    step_s: float
    window: str

    @property
    def span(self) -> str:
        """The same for ``$__range``."""
        return f"{round(self.end_unix_s - self.start_unix_s)}s"

    @property
    def times(self) -> NDArray[np.float64]:
        """Minutes since the start, one per point."""
        points = int((self.end_unix_s - self.start_unix_s) / self.step_s) + 1
        return np.arange(points) * self.step_s / 60


@dataclass(frozen=True)
class Series:
    """One line: a value per time, NaN where there is none."""

    name: str
    ref_id: str
    labels: Mapping[str, str]
    values: NDArray[np.float64]

    @property
    def last(self) -> float:
        """The latest value that there is."""
        known = self.values[np.isfinite(self.values)]
        return float(known[-1]) if len(known) else float("nan")


async def ask(
    prometheus: Prometheus, name: str, panel: Mapping[str, Any], look: Look
) -> list[Series]:
    """Send a panel's queries: instant ones give series of one value."""
    found = []
    for target in targets(name, panel, look.window, look.span):
        if target.is_instant:
            answers = await prometheus.instant(target.expr, look.end_unix_s)
            found += [_series(target, a["metric"], [a["value"]], None) for a in answers]
        else:
            answers = await prometheus.over(
                target.expr, look.start_unix_s, look.end_unix_s, look.step_s
            )
            found += [_series(target, a["metric"], a["values"], look) for a in answers]
    return found


def join(panel: Mapping[str, Any], series: Sequence[Series]) -> dict[str, NDArray[np.float64]]:
    """Do what the panel's transformations say: columns by name, sorted by the label they share."""
    options = {change["id"]: change["options"] for change in panel["transformations"]}
    label = options["joinByField"]["byField"]
    names = options["organize"]["renameByName"]
    keys = sorted({float(each.labels[label]) for each in series})
    columns = {label: np.array(keys)}
    for field, name in names.items():
        ref_id = field.removeprefix("Value #")
        values = {float(s.labels[label]): s.last for s in series if s.ref_id == ref_id}
        columns[name] = np.array([values.get(key, np.nan) for key in keys])
    return columns


def _series(
    target: Target, labels: Mapping[str, str], points: Sequence[Any], look: Look | None
) -> Series:
    if look is None:
        values = np.array([float(points[0][1])])
    else:
        values = np.full(len(look.times), np.nan)
        for time_unix_s, value in points:
            values[round((time_unix_s - look.start_unix_s) / look.step_s)] = float(value)
    if target.legend in {"", "__auto"}:
        name = ", ".join(labels.values()) or target.panel
    else:
        name = re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), target.legend)
    return Series(name, target.ref_id, labels, values)
