"""The kinds of panels that the dashboards are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, Final, TypeVar

from grafana_foundation_sdk.builders import (
    common as common_builders,
)
from grafana_foundation_sdk.builders import (
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from helm.dashboards.queries import RANGE, Query

PanelBuilder = Builder[models.Panel]
InstantsT = TypeVar("InstantsT", table.Panel, dashboard.Panel)
SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "#888888"
FULL, HALF, THIRD, QUARTER, SIXTH = 24, 12, 8, 6, 4
GRAPH_HEIGHT, NUMBER_HEIGHT = 8, 4


@dataclass(frozen=True, slots=True)
class Line:
    """One series of a chart of pairs, by the names of its columns."""

    name: str
    x: str
    y: str
    color: str
    is_drawn_thin: bool = False
    has_points: bool = True


def number(
    title: str,
    meaning: str,
    query: Query,
    unit: str = "short",
    *,
    steps: Sequence[tuple[float, str]] = (),
    below: str = BLUE,
    decimals: int | None = None,
    shows_name: bool = False,
    width: int = SIXTH,
    height: int = NUMBER_HEIGHT,
) -> stat.Panel:
    """Show one figure; `steps` are lower bounds with the colour from there on.

    Args:
        below: Colour under the first step.
        shows_name: Show the legend in place of the value.
    """
    is_of_range = RANGE in query.expr
    has_area = not (shows_name or is_of_range)
    target = _target(query, "A")
    panel = (
        stat.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .height(height)
        .span(width)
        .no_value("none")
        .thresholds(_thresholds(below, steps))
        .reduce_options(
            common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False)
        )
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.AREA if has_area else common.BigValueGraphMode.NONE)
        .with_target(target.instant() if is_of_range else target)
    )
    if shows_name:
        panel = panel.text_mode(common.BigValueTextMode.NAME)
    return panel if decimals is None else panel.decimals(decimals)


def graph(
    title: str,
    meaning: str,
    unit: str,
    *queries: Query,
    is_stacked: bool = False,
    least: float | None = 0.0,
    most: float | None = None,
    width: int = HALF,
) -> timeseries.Panel:
    """Draw series over time."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .height(GRAPH_HEIGHT)
        .span(width)
        .line_width(1)
        .fill_opacity(30 if is_stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(
            common_builders.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
    )
    if is_stacked:
        stacking = common_builders.StackingConfig().mode(common.StackingMode.NORMAL)
        panel = panel.stacking(stacking.group("A"))
    panel = panel if least is None else panel.min(least)
    panel = panel if most is None else panel.max(most)
    for query, letter in zip(queries, ascii_uppercase, strict=False):
        panel = panel.with_target(_target(query, letter))
    return panel


def states(
    title: str, meaning: str, query: Query, names: Mapping[str, tuple[str, str]], width: int = HALF
) -> statetimeline.Panel:
    """Draw states over time; `names` gives each value a name and a colour."""
    mapping = models.ValueMap(
        options={
            value: models.ValueMappingResult(text=name, color=color)
            for value, (name, color) in names.items()
        }
    )
    return (
        statetimeline.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .height(GRAPH_HEIGHT)
        .span(width)
        .mappings([mapping])
        .show_value(common.VisibilityMode.NEVER)
        .merge_values(merge_values=True)
        .row_height(0.8)
        .legend(_legend())
        .with_target(_target(query, "A"))
    )


def spread(title: str, meaning: str, unit: str, query: Query, width: int = HALF) -> heatmap.Panel:
    """Draw the buckets of a histogram over time."""
    colors = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(32)
    return (
        heatmap.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .height(GRAPH_HEIGHT)
        .span(width)
        .calculate(calculate=False)
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .color(colors.fill("dark-blue").exponent(0.5).reverse(reverse=False))
        .with_target(_target(query, "A").format(PromQueryFormat.HEATMAP))
    )


def listing(
    title: str,
    meaning: str,
    *queries: Query,
    transformations: Sequence[models.DataTransformerConfig],
    units: Mapping[str, str],
    width: int = FULL,
    height: int = GRAPH_HEIGHT,
) -> table.Panel:
    """List what instant queries return; `units` of columns."""
    panel = (
        table.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .height(height)
        .span(width)
        .transformations(list(transformations))
    )
    for column, unit in units.items():
        panel = panel.override_by_name(
            column, [models.DynamicConfigValue(id_val="unit", value=unit)]
        )
    return _with_instants(panel, queries)


def pairs(
    title: str,
    meaning: str,
    *queries: Query,
    transformations: Sequence[models.DataTransformerConfig],
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    x_unit: str,
    y_unit: str,
    width: int = HALF,
    height: int = GRAPH_HEIGHT,
) -> dashboard.Panel:
    """Draw one column of instant queries over another.

    In the form of Grafana 11.1, which the SDK's release for 10.1 has no builder for; Grafana's own
    migration of the older form fails on several series of one frame
    (``public/app/plugins/panel/xychart/migrations.ts``).
    """
    panel = (
        dashboard.Panel()
        .type("xychart")
        .plugin_version("11.1.0")
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .height(height)
        .span(width)
        .custom({"show": "points+lines", "pointSize": {"fixed": 7}, "lineWidth": 2})
        .options(
            {
                "mapping": "manual",
                "series": [_series(line) for line in lines],
                "legend": _legend().build(),
                "tooltip": common_builders.VizTooltipOptions().build(),
            }
        )
        .transformations(list(transformations))
    )
    columns = {line.y: [*_axis(y_label, y_unit), *_style(line)] for line in lines}
    for line in lines:
        columns[line.x] = [*_axis(x_label, x_unit), *columns.get(line.x, [])[2:]]
    for column, properties in columns.items():
        panel = panel.override_by_name(column, properties)
    return _with_instants(panel, queries)


def _series(line: Line) -> dict[str, Any]:
    def named(column: str) -> dict[str, Any]:
        return {"matcher": {"id": "byName", "options": column}}

    return {
        "name": {"fixed": line.name},
        "frame": {"matcher": {"id": "byIndex", "options": 0}},
        "x": named(line.x),
        "y": named(line.y),
    }


def _style(line: Line) -> list[models.DynamicConfigValue]:
    values = {
        "color": {"mode": "fixed", "fixedColor": line.color},
        "custom.show": "points+lines" if line.has_points else "lines",
        "custom.lineWidth": 1 if line.is_drawn_thin else 2,
    }
    return [models.DynamicConfigValue(id_val=name, value=value) for name, value in values.items()]


def join_by(label: str, columns: Mapping[str, str]) -> list[models.DataTransformerConfig]:
    """Put instant queries side by side: a row per value of `label`, sorted; `columns` by ref id."""
    renamed = {f"Value #{ref_id}": name for ref_id, name in columns.items()}
    number_of_label = {"conversions": [{"targetField": label, "destinationType": "number"}]}
    return [
        _transformation("joinByField", {"byField": label, "mode": "outer"}),
        _transformation("convertFieldType", {**number_of_label, "fields": {}}),
        _transformation("sortBy", {"fields": {}, "sort": [{"field": label}]}),
        _transformation("filterFieldsByName", {"include": {"names": [label, *renamed]}}),
        _transformation(
            "organize", {"excludeByName": {}, "indexByName": {}, "renameByName": renamed}
        ),
    ]


def _transformation(name: str, options: Mapping[str, Any]) -> models.DataTransformerConfig:
    return models.DataTransformerConfig(id_val=name, options=options)


def _with_instants(panel: InstantsT, queries: Sequence[Query]) -> InstantsT:
    for query, letter in zip(queries, ascii_uppercase, strict=False):
        panel = panel.with_target(_target(query, letter).instant().format(PromQueryFormat.TABLE))
    return panel


def _target(query: Query, letter: str) -> prometheus.Dataquery:
    target = (
        prometheus.Dataquery()
        .expr(query.expr)
        .legend_format(query.legend or "__auto")
        .ref_id(query.ref_id or letter)
        .datasource(SOURCE)
    )
    # The traces of slow requests, as points that lead to them.
    return target.exemplar(True) if "histogram_quantile" in query.expr else target  # noqa: FBT003


def _axis(label: str, unit: str) -> list[models.DynamicConfigValue]:
    return [
        models.DynamicConfigValue(id_val="unit", value=unit),
        models.DynamicConfigValue(id_val="custom.axisLabel", value=label),
    ]


def _legend() -> common_builders.VizLegendOptions:
    return (
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
    )


def _thresholds(below: str, steps: Sequence[tuple[float, str]]) -> dashboard.ThresholdsConfig:
    first = models.Threshold(value=None, color=below)
    rest = [models.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps([first, *rest])
