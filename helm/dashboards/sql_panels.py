"""Panels whose figures come from the gateway's database, by Grafana's source for Postgres."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models

from helm.dashboards.panels import GRAPH_HEIGHT, HALF, NUMBER_HEIGHT, QUARTER

POSTGRES: Final = "grafana-postgresql-datasource"
SOURCE: Final = models.DataSourceRef(type_val=POSTGRES, uid="${datasource}")


@dataclass(frozen=True, slots=True)
class SqlTarget(Dataquery, Builder[Dataquery]):
    """A query as Grafana sends it; the SDK has no builder for this source.

    Attributes:
        form: ``table``, or ``time_series``: then the columns are `time`, `metric` and a figure.
    """

    sql: str
    form: str

    def build(self) -> Dataquery:
        """Return itself."""
        return self

    def to_json(self) -> dict[str, Any]:
        """Lay it out as in a dashboard's file."""
        return {
            "refId": "A",
            "datasource": SOURCE,
            "editorMode": "code",
            "format": self.form,
            "rawQuery": True,
            "rawSql": self.sql,
        }


def number(title: str, meaning: str, sql: str, unit: str) -> stat.Panel:
    """Show one figure."""
    return (
        stat.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .height(NUMBER_HEIGHT)
        .span(QUARTER)
        .no_value("none")
        .graph_mode(common.BigValueGraphMode.NONE)
        .with_target(SqlTarget(sql, "table"))
    )


def days(title: str, meaning: str, sql: str, unit: str) -> timeseries.Panel:
    """Draw a bar for each day, of one part above the other."""
    stacking = common_builders.StackingConfig().mode(common.StackingMode.NORMAL)
    return (
        timeseries.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .height(GRAPH_HEIGHT)
        .span(HALF)
        .min(0.0)
        .draw_style(common.GraphDrawStyle.BARS)
        .fill_opacity(60)
        .stacking(stacking.group("A"))
        .with_target(SqlTarget(sql, "time_series"))
    )


def listing(
    title: str, meaning: str, sql: str, units: Mapping[str, str], width: int = HALF
) -> table.Panel:
    """List rows; `units` of columns."""
    panel = (
        table.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .height(GRAPH_HEIGHT)
        .span(width)
        .with_target(SqlTarget(sql, "table"))
    )
    for column, unit in units.items():
        panel = panel.override_by_name(
            column, [models.DynamicConfigValue(id_val="unit", value=unit)]
        )
    return panel
