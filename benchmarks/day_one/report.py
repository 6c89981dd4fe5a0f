"""Sums results up: shares of the loss of ignorance that are left, with intervals."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.day_one.protocol import COUNTS
from router_models.day_one.choice import ADAPTIVE_PROMPTS, LARGEST_RESIDUAL, transfers

SCENARIOS: Final = ("three new", "all new")
CONTENDERS: Final = ("best single", "K-means", "factors, random", "factors, chosen", "day one")
REPLICATES: Final = 500

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Read the lines that `run` wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def loss(row: Row, contender: str, count: int) -> float | None:
    """Return what a contender lost in one pool; None where it was not measured."""
    if contender == "best single" and count == 0:
        return float(row["ignorance"])
    value = row["loss"].get(contender, {}).get(str(count))
    return None if value is None else float(value)


def share(rows: Sequence[Row], contender: str, count: int) -> float | None:
    """Loss over the loss of ignorance, sets counting equally; None where a pool has no figure."""
    shares = []
    for name in sorted({row["set"] for row in rows}):
        of_set = [row for row in rows if row["set"] == name]
        found = [loss(row, contender, count) for row in of_set]
        known = [value for value in found if value is not None]
        if len(known) < len(found):
            return None
        shares.append(sum(known) / sum(row["ignorance"] for row in of_set))
    return float(np.mean(shares))


def interval(
    rows: Sequence[Row], figure: Callable[[Sequence[Row]], float | None]
) -> tuple[float, float]:
    """95 % bootstrap over draws, within each set and scenario."""
    rng = np.random.default_rng(0)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["set"], row["scenario"]), []).append(row)
    values = []
    for _ in range(REPLICATES):
        drawn = [of[place] for of in groups.values() for place in rng.integers(0, len(of), len(of))]
        value = figure(drawn)
        values.append(np.nan if value is None else value)
    low, high = np.quantile(values, [0.025, 0.975]).tolist()
    return low, high


def render(rows: Sequence[Row]) -> str:
    """Write the README."""
    template = Path(__file__).with_name("template.md").read_text()
    parts = {
        "pooled": _table(rows, CONTENDERS),
        "scenarios": "\n\n".join(_losses(rows, scenario) for scenario in SCENARIOS),
        "sets": "\n\n".join(_of_set(rows, name) for name in sorted({r["set"] for r in rows})),
        "blind": _blind(rows),
        "against": _against(rows),
        "gate": f"{LARGEST_RESIDUAL:g}",
        "adaptive": str(ADAPTIVE_PROMPTS),
        "draws": str(len({row["seed"] for row in rows})),
    }
    for name, text in parts.items():
        template = template.replace("{{" + name + "}}", text)
    return template


def _table(rows: Sequence[Row], contenders: Sequence[str], *, with_interval: bool = True) -> str:
    lines = ["| prompts | " + " | ".join(contenders) + " |", "|---" * (len(contenders) + 1) + "|"]
    for count in COUNTS:
        cells = []
        for contender in contenders:
            value = share(rows, contender, count)
            if value is None:
                cells.append("")
                continue
            cell = f"{value:.2f}"
            if with_interval:
                low, high = interval(rows, partial(share, contender=contender, count=count))
                cell += f" ({low:.2f} to {high:.2f})"
            cells.append(cell)
        lines.append(f"| {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _losses(rows: Sequence[Row], scenario: str) -> str:
    """Mean loss, not its share: with known models ignorance may lose next to nothing."""
    of = [row for row in rows if row["scenario"] == scenario]
    lines = [f"{scenario.capitalize()}:\n", "| prompts | " + " | ".join(CONTENDERS) + " |"]
    lines.append("|---" * (len(CONTENDERS) + 1) + "|")
    for count in COUNTS:
        found = [[loss(row, contender, count) for row in of] for contender in CONTENDERS]
        cells = ["" if None in one else f"{np.mean(np.array(one, float)):.1f}" for one in found]
        lines.append(f"| {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _of_set(rows: Sequence[Row], name: str) -> str:
    of_set = [row for row in rows if row["set"] == name]
    residuals = [row["residual"] for row in of_set]
    ignorance = float(np.mean([row["ignorance"] for row in of_set]))
    opened = np.mean([transfers(residual) for residual in residuals])
    return (
        f"**{name}**: residual {min(residuals):.2f} to {max(residuals):.2f}, gate open in "
        f"{opened:.0%} of the pools, loss of ignorance {ignorance:.0f}.\n\n"
        + _table(of_set, CONTENDERS, with_interval=False)
    )


def _blind(rows: Sequence[Row]) -> str:
    lines = [
        "| set | scenario | day one | cheapest model | day one less that | dearest model |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted({row["set"] for row in rows}):
        for scenario in SCENARIOS:
            of = [row for row in rows if (row["set"], row["scenario"]) == (name, scenario)]
            ours, cheapest, dearest = _at_no_prompts(of).mean(axis=0)
            low, high = interval(of, _less_cheapest)
            lines.append(
                f"| {name} | {scenario} | {ours:.1f} | {cheapest:.1f} | {ours - cheapest:.1f} "
                f"({low:.1f} to {high:.1f}) | {dearest:.1f} |"
            )
    return "\n".join(lines)


def _at_no_prompts(rows: Sequence[Row]) -> NDArray[np.float64]:
    found = [[loss(row, "day one", 0) or 0.0, row["cheapest"], row["dearest"]] for row in rows]
    return np.array(found)


def _less_cheapest(rows: Sequence[Row]) -> float:
    ours, cheapest, _ = _at_no_prompts(rows).mean(axis=0)
    return float(ours - cheapest)


def _against(rows: Sequence[Row]) -> str:
    """Paired differences to K-means with as many prompts, per set."""
    lines = [
        "| set | " + " | ".join(str(count) for count in COUNTS[1:]) + " |",
        "|---" * len(COUNTS) + "|",
    ]
    for name in sorted({row["set"] for row in rows}):
        of_set = [row for row in rows if row["set"] == name]
        cells = []
        for count in COUNTS[1:]:

            def figure(some: Sequence[Row], count: int = count) -> float:
                pairs = [(loss(r, "day one", count), loss(r, "K-means", count)) for r in some]
                return float(np.mean([(a or 0.0) - (b or 0.0) for a, b in pairs]))

            low, high = interval(of_set, figure)
            cells.append(f"{figure(of_set):.1f} ({low:.1f} to {high:.1f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
