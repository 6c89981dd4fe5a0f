"""What every dashboard has: variables, links, rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from helm.dashboards.panels import SOURCE, PanelBuilder
from helm.dashboards.queries import at
from helm.dashboards.sql_panels import POSTGRES

PAGE: Final = "docs/how-to/see-cost-and-quality.md"
"""Which explains the dashboards."""
SPEND_PAGE: Final = "docs/how-to/see-what-was-spent.md"
TAG: Final = "waypost"


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[PanelBuilder]


def frame(
    name: str,
    title: str,
    description: str,
    jobs_from: str,
    rows: Sequence[Row],
    *,
    has_router: bool = True,
) -> models.Dashboard:
    """Make a dashboard.

    Args:
        name: End of its address in Grafana, and of its file.
        title: In Grafana's list.
        description: What question it answers.
        jobs_from: The metric that whoever is shown has.
        rows: From top to bottom.
        has_router: Mark when other routers began to serve.
    """
    begun = (
        _begun(name, title, f"{description} See {PAGE}.", "prometheus")
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("30s")
        .with_variable(_choice("job", f"label_values({jobs_from}, job)"))
        .with_variable(_choice("instance", f'label_values({jobs_from}{{job=~"$job"}}, instance)'))
    )
    return _filled(begun.annotation(_router_swaps()) if has_router else begun, rows)


def sql_frame(name: str, title: str, description: str, rows: Sequence[Row]) -> models.Dashboard:
    """Make a dashboard of what the gateway's database says; days are those of UTC."""
    description = f"{description} See {SPEND_PAGE}."
    begun = _begun(name, title, description, POSTGRES).timezone("utc").time("now-30d", "now")
    return _filled(begun, rows)


def _begun(name: str, title: str, description: str, source: str) -> dashboard.Dashboard:
    return (
        dashboard.Dashboard(title)
        .uid(f"waypost-{name}")
        .description(description)
        .tags([TAG])
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(_other_dashboards())
        .with_variable(dashboard.DatasourceVariable("datasource").label("Source").type(source))
    )


def _filled(built: dashboard.Dashboard, rows: Sequence[Row]) -> models.Dashboard:
    for row in rows:
        built = built.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            built = built.with_panel(panel)
    made = built.build()
    for number, placed in enumerate(made.panels or (), start=1):
        placed.id_val = number
    return made


def _choice(name: str, query: str) -> dashboard.QueryVariable:
    everything = models.VariableOption(text="All", value="$__all", selected=True)
    definition: dict[str, Any] = {"query": query, "refId": name}
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(definition)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(everything)
    )


def _router_swaps() -> dashboard.AnnotationQuery:
    """Mark the first minute of each router, whichever replica has it first."""
    serving = f"count by (version) (waypost_router_info{at()}"
    return (
        dashboard.AnnotationQuery()
        .name("Router swaps")
        .datasource(SOURCE)
        .enable(enable=True)
        .icon_color("purple")
        .expr(f"{serving}) unless {serving} offset 1m)")
    )


def _other_dashboards() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Waypost")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(as_dropdown=True)
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
    )
