"""From the figures of all seeds to the page and the picture."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import isfinite, sqrt
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from benchmarks.closed_loop.contenders import (
    BANDIT,
    FIRST,
    INFORMED,
    JUDGED,
    LOOP,
    SITES,
    STATIC,
    USE,
    WEEKLY,
)
from benchmarks.closed_loop.world import Float64, Plan
from router_models.evaluation.judges import student_t

HERE: Final = Path(__file__).parent
COLOURS: Final = {
    INFORMED: "0.6",
    FIRST: "tab:red",
    LOOP: "tab:cyan",
    JUDGED: "tab:blue",
    WEEKLY: "tab:orange",
    USE: "tab:purple",
    BANDIT: "tab:green",
    STATIC: "0.8",
}
PHASES: Final = ("start", "one worse", "one cheaper", "new model", "other questions")

TO_INFORMED: Final = "share of the way from there to informed"

Row = Mapping[str, Any]


def read(file: Path) -> list[dict[str, Any]]:
    """Read the lines there are, one per seed."""
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def write(rows: Sequence[Row], out: Path) -> None:
    """Write the page and the picture."""
    page = (HERE / "template.md").read_text()
    for name, table in tables(rows).items():
        page = page.replace(f"{{{name}}}", table)
    (out / "README.md").write_text(page)
    draw(rows, out / "closed_loop.png")


def tables(rows: Sequence[Row]) -> dict[str, str]:
    """Render every table of the page."""
    return {
        "seeds": f"{len(rows)} seed{'s' if len(rows) > 1 else ''}",
        "estimator": f"`{rows[0]['estimator']}`",
        "totals": _totals(rows),
        "phases": _phases(rows),
        "first": _first(rows),
        "found": _found(rows),
        "money": _money(rows),
    }


def interval(values: Sequence[float] | Float64) -> tuple[float, float]:
    """Return the mean and how far its 95 % interval reaches to either side."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan")
    reach = student_t(len(values) - 1) * float(np.std(values, ddof=1)) / sqrt(len(values))
    return mean, reach


def with_contender(rows: Sequence[Row], name: str) -> list[Row]:
    """Return the seeds that a contender took part in."""
    return [row for row in rows if name in row["contenders"]]


def of_seeds(rows: Sequence[Row], name: str, read_one: Callable[[Row], float]) -> list[float]:
    """Read a figure of a contender from each seed that it took part in."""
    return [read_one(row["contenders"][name]) for row in with_contender(rows, name)]


def shown(values: Sequence[float] | Float64, digits: int) -> str:
    """Write a mean and its interval."""
    mean, reach = interval(values)
    return f"{mean:.{digits}f}" + (f" ± {reach:.{digits}f}" if isfinite(reach) else "")


def _begun(heads: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]


def _names(rows: Sequence[Row]) -> list[str]:
    """Name the contenders, the best first."""
    found = rows[0]["contenders"]
    return sorted(found, key=lambda name: -np.mean(of_seeds(rows, name, _total)))


def _total(line: Row) -> float:
    return float(line["total"])


def _totals(rows: Sequence[Row]) -> str:
    plan = Plan()
    turns = plan.days * plan.turns_per_day
    more_than_first = "more than the first router, %"
    lines = _begun(("contender", "seeds", "utility per turn", more_than_first, TO_INFORMED))
    for name in _names(rows):
        there = with_contender(rows, name)
        total, first, informed = (
            np.array(of_seeds(there, one, _total)) for one in (name, FIRST, INFORMED)
        )
        way = float((total - first).mean() / (informed - first).mean())
        more = 100.0 * (total / first - 1.0)
        cells = (str(len(there)), shown(total / turns, 4), shown(more, 1), f"{way:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _phases(rows: Sequence[Row]) -> str:
    phases = Plan().phases
    heads = [f"{name}, from day {day + 1}" for name, day in zip(PHASES, phases, strict=False)]
    lines = _begun(("contender", *heads))
    for name in _names(rows):
        there = with_contender(rows, name)
        days = np.array([row["contenders"][name]["by_day"] for row in there])
        cells = [shown(days[:, begin:end].mean(axis=1), 3) for begin, end in pairwise(phases)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _first(rows: Sequence[Row]) -> str:
    heads = (
        "contender",
        "worst day of a seed",
        "worst day of the mean",
        "days more than 2 % below",
        "of the mean",
        "seeds found worse by the test",
        "smallest p",
    )
    lines = _begun(heads)
    for name in (*SITES, BANDIT):
        found = [row["contenders"][name]["first"] for row in with_contender(rows, name)]
        if not found:
            continue
        ratios = np.array([one["ratio"] for one in found])
        mean = ratios.mean(axis=0)
        cells = (
            f"{ratios.min():.3f}",
            f"{mean.min():.3f}",
            f"{np.mean([one['days_below'] for one in found]):.1f} of {len(mean)}",
            str(int((mean < 0.98).sum())),
            f"{sum(one['is_worse'] for one in found)} of {len(found)}",
            f"{min(one['p_worse'] for one in found):.2g}",
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _found(rows: Sequence[Row]) -> str:
    changes = list(rows[0]["contenders"][FIRST]["days_until_found"])
    lines = _begun(("contender", *changes))
    for name in (FIRST, *SITES, BANDIT):
        if name not in rows[0]["contenders"]:
            continue
        cells = []
        for change in changes:
            days = of_seeds(rows, name, lambda line: line["days_until_found"][change])  # noqa: B023
            cells.append(_days(np.array(days)))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _days(days: Float64) -> str:
    days = days[~np.isnan(days)]
    if not len(days):
        return "nothing to move"
    never = int(np.isinf(days).sum())
    if never == len(days):
        return "never"
    middle = np.median(days)
    most = f"{middle:.0f}" if isfinite(middle) else "never"
    some = days[np.isfinite(days)]
    missed = f", never in {never} of {len(days)}" if never else ""
    return f"{most} ({some.min():.0f} to {some.max():.0f}{missed})"


def _money(rows: Sequence[Row]) -> str:
    heads = (
        "contender",
        "served, USD",
        "exploring, USD of regret",
        "turns explored",
        "judge, USD",
        "activated",
        "refused",
        "rolled back",
    )
    lines = _begun(heads)
    for name in SITES:
        if name not in rows[0]["contenders"]:
            continue
        figures = [
            shown(of_seeds(rows, name, lambda line: line["served_usd"]), 2),
            shown(of_seeds(rows, name, lambda line: line["exploring_usd"]), 3),
            shown(of_seeds(rows, name, lambda line: line["explored"]), 0),
            shown(of_seeds(rows, name, lambda line: line["judge_usd"]), 2),
        ]
        for what in ("activated", "refused", "rolled_back"):
            counts = of_seeds(rows, name, lambda line: line["events"].get(what, 0))  # noqa: B023
            figures.append(shown(counts, 1) if name in (LOOP, JUDGED) else "")
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return "\n".join(lines)


def draw(rows: Sequence[Row], file: Path) -> None:
    """Draw utility by day, what was gained over the first router, and traffic of changed models."""
    figure = Figure(figsize=(10, 11), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True)
    days = np.arange(1, Plan().days + 1)
    changes = list(rows[0]["contenders"][FIRST]["shares"])
    for name, colour in COLOURS.items():
        if name not in rows[0]["contenders"]:
            continue
        there = with_contender(rows, name)
        lines = [row["contenders"][name] for row in there]
        gained = np.array([line["by_day"] for line in lines])
        base = np.array([row["contenders"][FIRST]["by_day"] for row in there])
        axes[0].plot(days, gained.mean(axis=0), color=colour, label=name)
        if name != STATIC:
            axes[1].plot(
                days,
                Plan().turns_per_day * (gained - base).cumsum(axis=1).mean(axis=0),
                color=colour,
            )
            for axis, change in zip(axes[2:], changes[::2], strict=True):
                shares = np.array([line["shares"][change] for line in lines])
                axis.plot(days, shares.mean(axis=0), color=colour)
    axes[0].set_ylabel("utility per turn")
    axes[0].legend(ncols=4, fontsize="small")
    axes[1].set_ylabel("utility gained over\nthe first router")
    for axis, change in zip(axes[2:], changes[::2], strict=True):
        axis.set_ylabel(f"share of traffic:\n{change}")
    axes[-1].set_xlabel("day")
    for axis in axes:
        for day in Plan().phases[1:-1]:
            axis.axvline(day + 0.5, color="0.85", linewidth=1, zorder=0)
        axis.spines[["top", "right"]].set_visible(False)
    for label, day in zip(PHASES[1:], Plan().phases[1:-1], strict=True):
        axes[0].annotate(label, (day + 0.6, 1.02), xycoords=("data", "axes fraction"), fontsize=8)
    figure.savefig(file, dpi=110)
