"""Write README.md from results.json: `python -m benchmarks.logged_frontier.report`."""

import json
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

FIGURES: Final = ("quality", "cost", "utility")
WANTED: Final = (0.92, 0.98)
LEAST_POINTS: Final = 150
"""Of a cell, to be counted among those that lie between the bounds."""
Line = Mapping[str, Any]


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Write README.md beside its template."""
    lines = [line for line in results["cells"] if line["role"] != "named"]
    named = [line for line in results["cells"] if line["role"] == "named"]
    page = (folder / "template.md").read_text(encoding="utf-8")
    for mark, text in (
        ("{coverage}", _coverage(lines, ("exploration", "rows"), _exploration_and_rows)),
        ("{populations}", _coverage(lines, ("population",), lambda line: [line["population"]])),
        ("{cells}", _cells(lines)),
        ("{named}", _named(named)),
        ("{looks}", _looks(results["looks"])),
    ):
        page = page.replace(mark, text)
    (folder / "README.md").write_text(page, encoding="utf-8")


def _exploration(line: Line) -> str:
    kind = str(line["exploration"])
    return kind if kind == "thompson" else f"{kind} {line['epsilon']:g}"


def _exploration_and_rows(line: Line) -> list[str]:
    return [_exploration(line), f"{line['rows']:,}"]


def _coverage(
    lines: Sequence[Line], heads: Sequence[str], label: Callable[[Line], list[str]]
) -> str:
    """Sum over all that has one label; `before` by its own rule of what is shown."""
    sums: dict[tuple[str, ...], dict[str, dict[str, float]]] = {}
    for line in lines:
        of_label = sums.setdefault(tuple(label(line)), {})
        total = of_label.setdefault(line["figure"], defaultdict(float))
        for key, value in line.items():
            if isinstance(value, float) and key != "epsilon":
                total[key] += value
    rows = []
    for labels, by_figure in sums.items():
        shown = by_figure["quality"]
        cells = [*labels, f"{shown['shown_before']:,.0f}", f"{shown['shown']:,.0f}"]
        for figure in FIGURES:
            total = by_figure[figure]
            cells.append(_share(total["covered_before"], total["shown_before"]))
            cells.append(f"**{_share(total['covered'], total['shown'])}**")
        rows.append(cells)
    figures = [f"{figure} {when}" for figure in FIGURES for when in ("before", "now")]
    return _table([*heads, "points before", "now", *figures], rows, len(heads))


def _cells(lines: Iterable[Line]) -> str:
    """Count the cells between the bounds, and name the worst."""
    found = [line for line in lines if line["shown"] >= LEAST_POINTS]

    def share(line: Line, covered: str) -> float:
        return float(line[covered] / line["shown"])

    def inside(covered: str) -> int:
        low, high = WANTED
        return sum(low <= round(share(line, covered), 3) <= high for line in found)

    ranked = sorted(found, key=lambda line: share(line, "covered"))
    worst, before = ranked[0], min(share(x, "covered_same_points_before") for x in found)
    wide = sum(line["squared_half_width"] for line in found if line["figure"] == "quality")
    was = sum(line["squared_half_width_before"] for line in found if line["figure"] == "quality")
    text = (
        f"Of {len(found)} combinations of population, exploration, rows, router and figure with at "
        f"least {LEAST_POINTS} points, {inside('covered')} lie between {WANTED[0]:.0%} and "
        f"{WANTED[1]:.0%}; before, on the same points, {inside('covered_same_points_before')}. The "
        f"lowest is {share(worst, 'covered'):.1%} ({worst['figure']} of {worst['role']}, "
        f"{worst['population']}, {_exploration(worst)}, {worst['rows']:,} rows), the highest "
        f"{share(ranked[-1], 'covered'):.1%}; the lowest before is {before:.1%}. Intervals of "
        f"quality are {(wide / was) ** 0.5:.2f} times as wide as before on these points (root mean "
        "square)."
    )
    return textwrap.fill(text.replace("%", " %"), 120, break_on_hyphens=False)


def _named(lines: Iterable[Line]) -> str:
    sums: dict[str, dict[str, float]] = {}
    for line in lines:
        total = sums.setdefault(_exploration(line), defaultdict(float))
        for key in ("logs", "right_before", "named", "right"):
            total[key] += line[key]
    rows = [
        [
            kind,
            f"{total['logs']:.0f}",
            _share(total["right_before"], total["logs"]),
            f"{total['named']:.0f}",
            f"**{total['right']:.0f}**",
        ]
        for kind, total in sums.items()
    ]
    heads = ["exploration", "logs", "right before (always named)", "named now", "of them right"]
    return _table(heads, rows, 1)


def _looks(found: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"epsilon {each['epsilon']:g}",
            figure,
            _percent(each[figure]["one_look_missed_last"]),
            _percent(each[figure]["one_look_missed_ever"]),
            f"**{_percent(each[figure]['every_look_missed_ever'])}**",
        ]
        for each in found
        for figure in FIGURES
    ]
    heads = [
        "exploration",
        "figure",
        "missed at the last look",
        "missed at any look",
        "`--anytime`",
    ]
    return _table(heads, rows, 2)


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.3f}" if whole else "-"


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], labels: int) -> str:
    marks = ["---"] * labels + ["---:"] * (len(heads) - labels)
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, marks, *rows))


if __name__ == "__main__":
    here = Path(__file__).parent
    write(json.loads((here / "results.json").read_text(encoding="utf-8")), here)
