"""Draws a dashboard's panels in their places.

Not Grafana: a drawing of the same queries' answers by the same JSON, as close as matplotlib gets.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from benchmarks.dashboards.answers import Look, Series, join
from benchmarks.dashboards.sheet import (
    BLUES,
    EDGE,
    FAINT,
    GAP_PX,
    NAMED,
    PALETTE,
    UNIT_PX,
    WIDTH_PX,
    Place,
    Sheet,
    Shown,
)
from benchmarks.dashboards.units import write


def draw(
    dashboard: Mapping[str, Any], answers: Mapping[str, Sequence[Series]], look: Look
) -> Figure:
    """Draw all panels; `answers` by their titles."""
    below = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in dashboard["panels"])
    sheet = Sheet.of(below + 1)
    sheet.write(2 * GAP_PX, UNIT_PX / 2, dashboard["title"], fontsize=14, fontweight="bold")
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        column = (WIDTH_PX - GAP_PX) / 24
        place = Place(
            GAP_PX + at["x"] * column,
            (at["y"] + 1) * UNIT_PX,
            at["w"] * column - GAP_PX,
            at["h"] * UNIT_PX - GAP_PX,
        )
        if panel["type"] == "row":
            sheet.write(place.x + 4, place.y + 16, f"▾  {panel['title']}", fontsize=11)
            continue
        sheet.frame(place)
        sheet.write(place.x + 10, place.y + 16, panel["title"])
        KINDS[panel["type"]](Shown(sheet, place, panel, answers[panel["title"]], look))
    return sheet.figure


def _draw_number(shown: Shown) -> None:
    defaults, options = shown.panel["fieldConfig"]["defaults"], shown.panel["options"]
    middle = shown.place.y + shown.place.height / 2 + 10
    if options["graphMode"] == "area" and shown.series and len(shown.series[0].values) > 1:
        axes = shown.sheet.axes(
            Place(
                shown.place.x + 2, middle + 16, shown.place.width - 4, shown.place.height / 2 - 28
            )
        )
        axes.set_axis_off()
        values = shown.series[0].values
        axes.fill_between(
            shown.look.times, values, np.nanmin(values), color=NAMED["blue"], alpha=0.25
        )
        axes.set_xlim(shown.look.times[0], shown.look.times[-1])
    x, style = shown.place.x + shown.place.width / 2, {"ha": "center"}
    if options["textMode"] == "name":
        names = sorted({each.name for each in shown.series})
        size = min(20.0, shown.place.width / max(map(len, names)) * 1.05)
        shown.sheet.write(x, middle, "\n".join(names), color=NAMED["blue"], fontsize=size, **style)
        return
    value = shown.series[0].last if shown.series else float("nan")
    text = write(value, defaults["unit"], defaults.get("decimals"))
    shown.sheet.write(x, middle, text, color=_threshold(defaults, value), fontsize=24, **style)


def _threshold(defaults: Mapping[str, Any], value: float) -> str:
    steps = defaults["thresholds"]["steps"]
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return NAMED[reached[-1]]


def _draw_graph(shown: Shown) -> None:
    defaults, times = shown.panel["fieldConfig"]["defaults"], shown.look.times
    axes = _plot(shown, defaults["unit"])
    series = [each for each in shown.series if np.isfinite(each.values).any()]
    colors = [color for _, color in zip(series, cycle(PALETTE), strict=False)]
    if defaults["custom"].get("stacking", {}).get("mode") == "normal" and series:
        layers = [np.nan_to_num(each.values) for each in series]
        axes.stackplot(times, layers, colors=colors, alpha=0.45, linewidth=0)
        for top, color in zip(np.cumsum(layers, axis=0), colors, strict=True):
            axes.plot(times, top, color=color, linewidth=1)
    else:
        for each, color in zip(series, colors, strict=True):
            axes.plot(times, each.values, color=color, linewidth=1.3)
            axes.fill_between(times, each.values, 0, color=color, alpha=0.06, linewidth=0)
    _limit(axes, defaults, [each.values for each in series])
    shown.legend([(each.name, color) for each, color in zip(series, colors, strict=True)])


def _limit(axes: Axes, defaults: Mapping[str, Any], values: Sequence[Any]) -> None:
    if not any(np.nan_to_num(each).any() for each in values):
        axes.set_ylim(0, 1)
    if "min" in defaults:
        axes.set_ylim(bottom=defaults["min"])
    if "max" in defaults:
        axes.set_ylim(top=defaults["max"] * 1.02)


def _draw_states(shown: Shown) -> None:
    axes = shown.sheet.axes(shown.inside(left=shown.place.width * 0.36))
    mappings = shown.panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    for row, each in enumerate(sorted(shown.series, key=lambda s: s.name, reverse=True)):
        for at, value in zip(shown.look.times, each.values, strict=True):
            if np.isfinite(value):
                known = mappings.get(f"{value:g}")
                color = NAMED[known["color"]] if known else PALETTE[row]
                axes.barh(row, shown.look.step_s / 60, 0.72, left=at, color=color, alpha=0.75)
    axes.set_yticks(range(len(shown.series)), sorted((s.name for s in shown.series), reverse=True))
    axes.set_xlim(shown.look.times[0], shown.look.times[-1])
    axes.xaxis.set_major_formatter(_minutes)
    shown.legend([(m["text"], NAMED[m["color"]]) for m in mappings.values()])


def _draw_spread(shown: Shown) -> None:
    axes = _plot(shown, "s")
    series = sorted(shown.series, key=lambda each: float(each.labels["le"]))
    counts = np.diff([np.nan_to_num(each.values) for each in series], axis=0, prepend=0.0)
    used = [row for row in range(len(series)) if counts[row].max() > 0]
    rows = range(max(used[0] - 1, 0), used[-1] + 1)
    cells = np.sqrt(np.maximum(counts[rows.start : rows.stop], 0))
    axes.pcolormesh(shown.look.times, range(len(cells)), cells, cmap=BLUES, shading="nearest")
    bounds = [float(series[row].labels["le"]) for row in rows]
    names = [write(bound, "s") if np.isfinite(bound) else "more" for bound in bounds]
    axes.set_yticks(range(len(cells)), names)
    axes.grid(visible=False)


def _draw_table(shown: Shown) -> None:
    columns = join(shown.panel, shown.series)
    units = _units(shown.panel)
    step = (shown.place.width - 20) / len(columns)
    for column, (name, values) in enumerate(columns.items()):
        x = shown.place.x + 12 + column * step
        shown.sheet.write(
            x, shown.place.y + 44, name.replace("_", " "), color="#6e9fff", fontsize=7.5
        )
        for row, value in enumerate(values):
            text = write(value, units.get(name, "short")) if np.isfinite(value) else ""
            shown.sheet.write(x, shown.place.y + 68 + 22 * row, text, fontsize=9)


def _draw_pairs(shown: Shown) -> None:
    columns, properties = join(shown.panel, shown.series), _properties(shown.panel)
    axes = shown.sheet.axes(shown.inside(left=66, bottom=70))
    entries = []
    for line in shown.panel["options"]["series"]:
        x_name, y_name = (line[axis]["matcher"]["options"] for axis in ("x", "y"))
        x, y, style = columns[x_name], columns[y_name], properties[y_name]
        known = np.isfinite(x) & np.isfinite(y)
        color = style["color"]["fixedColor"]
        color = NAMED.get(color, color)
        is_thin = style["custom.lineWidth"] == 1
        axes.plot(
            x[known],
            y[known],
            color=color,
            linewidth=0.9 if is_thin else 2,
            alpha=0.6 if is_thin else 1,
            marker="o" if "points" in style["custom.show"] else None,
            markersize=5,
        )
        entries.append((line["name"]["fixed"], color))
    first = shown.panel["options"]["series"][0]
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        column = properties[first[name]["matcher"]["options"]]
        axis.set_major_formatter(FuncFormatter(partial(_write, unit=column["unit"])))
        axis.set_label_text(column["custom.axisLabel"], color=FAINT, fontsize=8.5)
    axes.grid(visible=True, color=EDGE, linewidth=0.6)
    shown.legend(entries)


KINDS: Final[Mapping[str, Callable[..., None]]] = {
    "stat": _draw_number,
    "timeseries": _draw_graph,
    "state-timeline": _draw_states,
    "heatmap": _draw_spread,
    "table": _draw_table,
    "xychart": _draw_pairs,
}


def _plot(shown: Shown, unit: str) -> Axes:
    axes = shown.sheet.axes(shown.inside())
    axes.grid(visible=True, color=EDGE, linewidth=0.6)
    axes.set_xlim(shown.look.times[0], shown.look.times[-1])
    axes.xaxis.set_major_formatter(_minutes)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(partial(_write, unit=unit)))
    return axes


def _write(value: float, _: float, unit: str) -> str:
    return write(value, unit)


def _minutes(value: float, _: float) -> str:
    return f"{int(value)}:{round(value % 1 * 60):02d}"


def _units(panel: Mapping[str, Any]) -> dict[str, str]:
    return {name: p["unit"] for name, p in _properties(panel).items() if "unit" in p}


def _properties(panel: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        override["matcher"]["options"]: {p["id"]: p["value"] for p in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }
