"""Pictures of budget policies: accuracy against tokens, and learning curves. Needs matplotlib."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from budget.training.evaluate import Comparison, ParetoFront
from budget.training.train import StepFigures

COLORS: Final = (
    "#0b6e99",
    "#d9622b",
    "#5b8c3a",
    "#8a4f9e",
    "#c2a01e",
    "#7a5c45",
    "#b03a5b",
    "#2f4858",
)
INK: Final = "#333333"


@dataclass(frozen=True, slots=True)
class Marked:
    """One policy's point with its intervals."""

    label: str
    family: str
    figures: Comparison


def draw_fronts(
    title: str, static: ParetoFront, oracle: ParetoFront | None, marked: Sequence[Marked]
) -> Figure:
    """Draw accuracy against tokens: the static front, the oracle's, and every policy's point."""
    figure = Figure(figsize=(8.0, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(static.tokens, static.accuracy, color=INK, marker=".", label="static, every budget")
    if oracle is not None:
        axes.plot(oracle.tokens, oracle.accuracy, color="#999999", ls="--", label="clairvoyant")
    families = list(dict.fromkeys(one.family for one in marked))
    for family, color in zip(families, COLORS * len(families), strict=False):
        points = sorted(
            (one.figures for one in marked if one.family == family), key=lambda one: one.tokens[0]
        )
        _plot_points(axes, points, color, family)
    axes.set_xlabel("completion tokens per conversation")
    axes.set_ylabel("share of right final answers")
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9)
    _finish(axes)
    return figure


def _plot_points(axes: Axes, points: Sequence[Comparison], color: str, label: str) -> None:
    tokens = [one.tokens[0] for one in points]
    accuracy = [one.accuracy[0] for one in points]
    axes.errorbar(
        tokens,
        accuracy,
        xerr=_around([one.tokens for one in points]),
        yerr=_around([one.accuracy for one in points]),
        color=color,
        marker="o",
        ms=5,
        lw=1.2,
        elinewidth=0.8,
        label=label,
    )


def _around(intervals: Sequence[tuple[float, float, float]]) -> list[list[float]]:
    return [
        [max(mean - low, 0.0) for mean, low, _ in intervals],
        [max(high - mean, 0.0) for mean, _, high in intervals],
    ]


def draw_learning(title: str, curves: Mapping[str, Sequence[Sequence[StepFigures]]]) -> Figure:
    """Draw reward and tokens over the steps, one line per training seed."""
    figure = Figure(figsize=(11.0, 3.8), layout="constrained")
    panels = figure.subplots(1, 2)
    for (label, runs), color in zip(curves.items(), COLORS * len(curves), strict=False):
        for number, run in enumerate(runs):
            name = label if number == 0 else None
            steps = [point.step for point in run]
            rewards = _smooth([point.reward for point in run])
            tokens = _smooth([point.tokens for point in run])
            panels[0].plot(steps, rewards, color=color, lw=0.9, alpha=0.8, label=name)
            panels[1].plot(steps, tokens, color=color, lw=0.9, alpha=0.8, label=name)
    for axes, name in zip(panels, ("reward", "completion tokens per conversation"), strict=True):
        axes.set_xlabel("step")
        axes.set_ylabel(name)
        _finish(axes)
    if len(curves) > 1:
        lines, labels = panels[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside right upper", frameon=False, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    return figure


def _smooth(values: Sequence[float], window: int = 10) -> list[float]:
    return [
        sum(values[max(0, end - window) : end]) / min(end, window)
        for end in range(1, len(values) + 1)
    ]


def _finish(axes: Axes) -> None:
    axes.grid(color="#dddddd", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
