"""Draws CPU per request of every gateway."""

from collections.abc import Mapping
from pathlib import Path


def draw(figures: Mapping[str, Mapping[str, float]], file: Path) -> None:
    """Draw one panel per series, bars on a logarithmic axis, the cheapest on top."""
    # The agg backend needs no display.
    import matplotlib as mpl  # noqa: PLC0415 (installed with the `train` extra only)

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    panels = {title: bars for title, bars in figures.items() if bars}
    heights = [len(bars) + 1.5 for bars in panels.values()]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(9, 0.42 * sum(heights)), height_ratios=heights, squeeze=False
    )
    for axis, (title, bars) in zip(axes[:, 0], panels.items(), strict=True):
        ordered = sorted(bars.items(), key=lambda pair: -pair[1])
        names = [name for name, _ in ordered]
        values = [value for _, value in ordered]
        colours = ["#1f6f8b" if name.startswith("Waypost") else "#b8b8b8" for name in names]
        drawn = axis.barh(names, values, color=colours)
        axis.bar_label(drawn, [f" {value:.2f}" for value in values], fontsize=9)
        axis.set_xscale("log")
        axis.set_xlim(min(values) / 2, max(values) * 2)
        axis.set_title(title, loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("CPU milliseconds per request, all processes of the gateway (log scale)")
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


def draw_growth(curves: Mapping[str, Mapping[str, Mapping[str, float]]], file: Path) -> None:
    """Draw one panel per curve: times the CPU time of its first size, both axes logarithmic."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, len(curves), figsize=(3 * len(curves), 3), squeeze=False)
    for axis, (name, cells) in zip(axes[0], curves.items(), strict=True):
        sizes = [int(size) for size in cells]
        times = [cell["times"] for cell in cells.values()]
        low = [cell["times"] - cell["low"] for cell in cells.values()]
        high = [cell["high"] - cell["times"] for cell in cells.values()]
        axis.errorbar(sizes, times, [low, high], marker="o", capsize=3, color="#1f6f8b")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_ylim(min(0.8, *times), max(2.0, max(times) * 1.3))
        axis.set_xlabel(name)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("times the CPU time of a usual request")
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)
