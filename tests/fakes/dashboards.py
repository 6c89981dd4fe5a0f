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


def filled(expr: str, window: str, span: str) -> str:
    """Fill the variables of a query in, with everything selected."""
    values = {"$__rate_interval": window, "$__range": span, "$job": ".*", "$instance": ".*"}
    for variable, value in values.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr, f"{expr} has an unknown variable"
    return expr


def annotations() -> dict[str, str]:
    """Return the queries by which the dashboards mark moments, by dashboard."""
    return {
        name: one["expr"]
        for name, dashboard in read_dashboards().items()
        for one in dashboard.get("annotations", {}).get("list", ())
    }


def targets(name: str, panel: Mapping[str, Any], window: str, span: str) -> Iterator[Target]:
    """Yield a panel's queries as Grafana would send them with everything selected.

    Args:
        name: Of the dashboard.
        panel: As in the JSON.
        window: For ``$__rate_interval``.
        span: For ``$__range``.
    """
    for target in panel.get("targets", ()):
        expr = filled(target["expr"], window, span)
        legend = target.get("legendFormat", "")
        yield Target(
            name, panel["title"], target["refId"], legend, expr, bool(target.get("instant"))
        )
