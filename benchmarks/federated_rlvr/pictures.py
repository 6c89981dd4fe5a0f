"""The picture of the benchmark, from results.json alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.federated_rlvr.measure import right_answers
from benchmarks.federated_rlvr.protocol import ARMS, BALANCED, BASE, FEDAVG, LOCAL, PUBLIC, RANDOM

COLOURS: Final = {
    LOCAL: "tab:gray",
    FEDAVG: "tab:orange",
    PUBLIC: "tab:green",
    RANDOM: "tab:purple",
    BALANCED: "tab:blue",
}


def draw(results: Mapping[str, Any], file: Path) -> None:
    """Draw accuracy over the rounds: the mean of all kinds, and each kind."""
    mpl.use("Agg")
    seeds = list(results["runs"].values())
    kinds = list(next(iter(seeds[0][BASE]["marks"]["0"].values())))
    figure, panels = plt.subplots(1, 1 + len(kinds), figsize=(3.2 * (1 + len(kinds)), 3.4))
    for place, axes in enumerate(panels):
        chosen = list(range(len(kinds))) if place == 0 else [place - 1]
        for arm in ARMS:
            _curve(axes, [runs for runs in seeds if arm in runs], arm, chosen)
        axes.set_title("mean of all kinds" if place == 0 else kinds[place - 1], fontsize=10)
        axes.set_ylim(0.0, 1.02)
        axes.set_xlabel("rounds")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("right answers to test questions")
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="lower center", ncol=len(ARMS), frameon=False)
    figure.tight_layout(rect=(0.0, 0.08, 1.0, 1.0))
    figure.savefig(file, dpi=100)
    plt.close(figure)


def _curve(axes: Axes, seeds: list[Mapping[str, Any]], arm: str, kinds: list[int]) -> None:
    """Draw an arm: the mean of its seeds, and each seed thin."""
    if not seeds:
        return
    curves = []
    for runs in seeds:
        points = {"0": runs[BASE], **dict.fromkeys(runs[arm]["marks"], runs[arm])}
        curves.append([right_answers(run, after)[kinds].mean() for after, run in points.items()])
    rounds = [int(after) for after in points]
    for curve in curves:
        axes.plot(rounds, curve, color=COLOURS[arm], lw=0.6, alpha=0.4)
    axes.plot(rounds, np.mean(curves, axis=0), "o-", color=COLOURS[arm], ms=3, label=arm)
