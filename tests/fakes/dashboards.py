"""What Grafana does with a dashboard's queries before it sends them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROMETHEUS = "prometheus"
FOLDER = Path(__file__).resolve().parents[2] / "helm" / "waypost" / "dashboards"


@dataclass(frozen=True)
class Target:
    """One query of a panel, variables filled in."""

    dashboard: str
    panel: str
    ref_id: str
    legend: str
    expr: str
    is_instant: bool


def read_dashboards(source: str | None = PROMETHEUS) -> dict[str, dict[str, Any]]:
    """Read what the chart ships for a kind of source, or for any, by name."""
    every = {file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))}
    return {
        name: dashboard
        for name, dashboard in every.items()
        if source in (None, dashboard["templating"]["list"][0]["query"])
    }


def targets(name: str, panel: Mapping[str, Any], window: str, span: str) -> Iterator[Target]:
    """Yield a panel's queries as Grafana would send them with everything selected.

    Args:
        name: Of the dashboard.
        panel: As in the JSON.
        window: For ``$__rate_interval``.
        span: For ``$__range``.
    """
    values = {"$__rate_interval": window, "$__range": span, "$job": ".*", "$instance": ".*"}
    for target in panel.get("targets", ()):
        expr = target["expr"]
        for variable, value in values.items():
            expr = expr.replace(variable, value)
        assert "$" not in expr, f"{name}: {panel['title']}: {expr} has an unknown variable"
        legend = target.get("legendFormat", "")
        yield Target(
            name, panel["title"], target["refId"], legend, expr, bool(target.get("instant"))
        )
