"""Pictures of routers: quality over cost, and predicted quality against what happened."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from router_models.evaluation.frontier import Points, envelope, hull
from router_models.evaluation.predictions import Bin
from router_models.evaluation.report import ORACLE, REFERENCES, FrontierReport, Report

COLORS: Final = ("#0b6e99", "#d9622b", "#5b8c3a", "#8a4f9e", "#c2a01e", "#7a5c45")
INK: Final = "#333333"
HEIGHT_IN: Final = 5.2
FRONTIER_IN, CALIBRATION_IN = 8.4, 5.2


def draw_report(title: str, report: Report) -> Figure:
    """Draw the frontier, where there is one, and beside it how predictions agree with answers."""
    found = report.frontier
    widths = [FRONTIER_IN, CALIBRATION_IN] if found else [CALIBRATION_IN]
    figure = Figure(figsize=(sum(widths), HEIGHT_IN), layout="constrained")
    panels = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    if found is not None:
        routers = {
            name: (np.array(each.cost_usd), np.array(each.quality))
            for name, each in found.frontiers.items()
            if name not in REFERENCES
        }
        draw_frontiers(panels[0], title, _singles(found), _oracle(found), routers)
    draw_calibration(
        panels[-1],
        "predicted and actual quality" if found else title,
        {name: each.overall.bins for name, each in report.predictions.items()},
    )
    return figure


def _singles(found: FrontierReport) -> Points:
    alone = found.models.values()
    return np.array([each.cost_usd for each in alone]), np.array([each.quality for each in alone])


def _oracle(found: FrontierReport) -> Points:
    oracle = found.frontiers[ORACLE]
    return np.array(oracle.cost_usd), np.array(oracle.quality)


def draw_frontiers(
    axes: Axes, title: str, singles: Points, oracle: Points, routers: Mapping[str, Points]
) -> None:
    """Draw quality over cost: routers as lines, models as dots, the oracle as the limit.

    Args:
        axes: To draw into.
        title: Of the panel.
        singles: Each model alone.
        oracle: The frontier of the best choices.
        routers: The frontier of each router.
    """
    _draw_references(axes, singles, oracle)
    for index, (name, points) in enumerate(routers.items()):
        x, y = envelope(*points)
        axes.plot(
            x * 1000, y, color=_color(index), linewidth=1.9, label=name, drawstyle="steps-post"
        )
    axes.set_xlabel("mean cost, USD per 1,000 queries")
    if singles[0].min() > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("mean cost, USD per 1,000 queries (log scale)")
    axes.set_ylabel("mean quality")
    cheapest = float(hull(*singles)[1][0])
    axes.set_ylim(max(0.0, cheapest - 0.05), min(1.0, float(oracle[1].max()) + 0.03))
    _finish(axes, title)


def _draw_references(axes: Axes, singles: Points, oracle: Points) -> None:
    cost, quality = singles
    best = int(np.lexsort((cost, -quality))[0])
    x, y = envelope(*oracle)
    axes.plot(x * 1000, y, color="#999999", linewidth=1.2, linestyle=":", label="oracle")
    corner_x, corner_y = hull(cost, quality)
    # A random mix is a straight line in USD, so it needs many points on a logarithmic axis.
    spaced = np.geomspace if corner_x[0] > 0 else np.linspace
    mixed = spaced(corner_x[0], corner_x[-1], 200)
    level = np.interp(mixed, corner_x, corner_y)
    axes.plot(mixed * 1000, level, color=INK, linewidth=1.0, linestyle="--", label="random mix")
    axes.scatter(cost * 1000, quality, s=20, color="#bbbbbb", zorder=3, label="single models")
    axes.scatter(
        [cost[best] * 1000],
        [quality[best]],
        s=90,
        marker="*",
        color=INK,
        zorder=4,
        label="best single model",
    )
    axes.axhline(float(quality[best]), color=INK, linewidth=0.6, alpha=0.5)


def draw_calibration(axes: Axes, title: str, routers: Mapping[str, Sequence[Bin]]) -> None:
    """Draw actual over predicted quality: a calibrated router lies on the diagonal."""
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--", label="calibrated")
    for index, (name, bins) in enumerate(routers.items()):
        axes.plot(
            [each.predicted for each in bins],
            [each.actual for each in bins],
            color=_color(index),
            linewidth=1.4,
            marker="o",
            markersize=4,
            label=name,
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.set_xlabel("mean predicted quality")
    axes.set_ylabel("mean quality of the answers")
    _finish(axes, title)


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", fontsize=8.5, frameon=False)
