"""Pictures of the benchmark, from results.json alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.federated_routing.arms import ARMS, FEDERATED, KINDS, LOCAL

COLOURS: Final = {"local": "tab:orange", "federated": "tab:blue", "centralised": "tab:green"}
ALPHAS: Final = ("alpha 0.6", "alpha 0.03")
MEGABYTE: Final = 1e6
CLIENT_RANGE: Final = (-0.25, 0.45)
"""A few clients with a dozen test rows lie outside, and would flatten all others."""


def draw_all(results: Mapping[str, Any], out: Path) -> None:
    """Draw what there are figures for."""
    mpl.use("Agg")
    for name, found in results["sets"].items():
        if all(alpha in found for alpha in ALPHAS):
            draw_frontiers(name, found, out / f"{name}.png")
    draw_clients(results["sets"], out / "clients.png")
    if results["scaling"]:
        draw_scaling(results["scaling"], out / "scaling.png")


def draw_frontiers(name: str, found: Mapping[str, Any], file: Path) -> None:
    """Mean quality over mean cost on the pooled test rows of the first deal."""
    figure, panels = plt.subplots(2, 2, figsize=(10, 7.5), sharex=True, sharey=True)
    for row, alpha in zip(panels, ALPHAS, strict=True):
        frontiers = found[alpha]["frontiers"]
        for axes, kind in zip(row, KINDS, strict=True):
            _frontiers(axes, frontiers, kind)
            axes.set_title(f"{kind}, {alpha}", fontsize=10)
    figure.suptitle(f"{name}: test rows of all clients, first deal")
    figure.supxlabel("USD per 1,000 queries")
    figure.supylabel("mean quality")
    panels[0][0].legend(fontsize=8)
    _save(figure, file)


def _frontiers(axes: Axes, frontiers: Mapping[str, Any], kind: str) -> None:
    for label, style in (("oracle", "k:"), ("random mix", "k--")):
        cost, quality = np.array(frontiers[label])
        axes.plot(1000 * cost, quality, style, lw=1, label=label)
    cost, quality = np.array(frontiers["single models"])
    axes.plot(1000 * cost, quality, "k.", ms=4, label="single models")
    if "ParetoBandit" in frontiers:
        cost, quality = np.array(frontiers["ParetoBandit"])
        axes.plot(1000 * cost, quality, color="tab:red", lw=1, label="ParetoBandit (pooled)")
    for arm in ARMS:
        cost, quality = np.array(frontiers[f"{kind} {arm}"])
        label = f"{arm} (mean of clients)" if arm == LOCAL else arm
        axes.plot(1000 * cost, quality, color=COLOURS[arm], label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)


def draw_clients(sets: Mapping[str, Any], file: Path) -> None:
    """Federated minus local on every client's own test rows, AUC over the common range."""
    whole = {name: found for name, found in sets.items() if all(a in found for a in ALPHAS)}
    if not whole:
        return
    figure, panels = plt.subplots(
        len(whole), 4, figsize=(13, 2.6 * len(whole)), sharey="row", squeeze=False
    )
    for row, (name, found) in zip(panels, whole.items(), strict=True):
        cells = [(alpha, kind) for alpha in ALPHAS for kind in KINDS]
        for axes, (alpha, kind) in zip(row, cells, strict=True):
            tally = found[alpha]["own"][kind][f"{FEDERATED} - {LOCAL}"]["common_auc"]
            _whiskers(axes, tally["each"])
            axes.set_title(f"{name}, {kind}, {alpha}", fontsize=9)
    figure.suptitle("Federated minus local on each client's own test rows (common AUC, 95 %)")
    figure.supxlabel("clients of all deals, sorted")
    _save(figure, file)


def _whiskers(axes: Axes, each: Sequence[Mapping[str, float]]) -> None:
    ordered = sorted(each, key=lambda one: one["value"])
    value, low, high = (np.array([one[k] for one in ordered]) for k in ("value", "low", "high"))
    place = np.arange(len(ordered))
    axes.vlines(place, low, high, color="tab:blue", lw=1, alpha=0.5)
    axes.plot(place, value, ".", color="tab:blue", ms=4)
    axes.axhline(0.0, color="k", lw=0.8)
    axes.set_ylim(*CLIENT_RANGE)
    axes.grid(alpha=0.3)


def draw_scaling(costs: Sequence[Mapping[str, Any]], file: Path) -> None:
    """CPU time, memory and traffic over clients, and over models."""
    figure, panels = plt.subplots(2, 3, figsize=(12, 6.5))
    fewest_clients = min(cost["clients"] for cost in costs)
    fewest_models = min(cost["models"] for cost in costs)
    for row, axis, other, fixed in (
        (panels[0], "clients", "models", fewest_models),
        (panels[1], "models", "clients", fewest_clients),
    ):
        for kind in KINDS:
            some = [c for c in costs if c["kind"] == kind and c[other] == fixed]
            some.sort(key=lambda cost: cost[axis])
            sizes = [cost[axis] for cost in some]
            grown = [(c["peak_bytes"] - c["start_bytes"]) / MEGABYTE for c in some]
            traffic = [per_round(c) / MEGABYTE for c in some]
            lines = ([c["cpu_s"] for c in some], grown, traffic)
            for axes, values in zip(row, lines, strict=True):
                axes.plot(sizes, values, "o-", label=kind)
                axes.set(xscale="log", yscale="log", xlabel=f"{axis} ({fixed} {other})")
                axes.grid(alpha=0.3)
        for axes, title in zip(
            row,
            ("CPU seconds, session", "MB of memory added", "MB per client and round"),
            strict=True,
        ):
            axes.set_title(title, fontsize=10)
    panels[0][0].legend()
    _save(figure, file)


def per_round(cost: Mapping[str, Any]) -> float:
    """Bytes to and from one client per message and its answer."""
    return float((cost["bytes_sent"] + cost["bytes_received"]) / cost["messages"])


def _save(figure: Any, file: Path) -> None:
    figure.tight_layout()
    figure.savefig(file, dpi=100)
    plt.close(figure)
