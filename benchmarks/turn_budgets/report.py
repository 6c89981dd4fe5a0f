"""Write README.md from results.json: `python -m benchmarks.turn_budgets.report`."""

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from budget.training.evaluate import Comparison, ParetoFront
from gateway.problems.budget_pictures import Marked, draw_fronts

FOLDER: Final = Path(__file__).parent
BUDGETS: Final = {
    "unbound": "A budget that never binds",
    "typical": "A budget of what the tuned static conversation uses on average",
    "half": "Half of that",
}
HEADS: Final = (
    "policy",
    "tuned to",
    "accuracy",
    "tokens",
    "tokens against tuned static",
    "tokens saved at its own accuracy",
    "accuracy gained at its own tokens",
    "E3 in 1e-6",
    "violations",
)
SUMMARY_HEADS: Final = (
    "environment",
    "policy",
    "accuracy (tuned static)",
    "tokens saved at its own accuracy",
    "tokens against tuned static",
    "oracle's saving",
)


def main() -> None:
    results = json.loads((FOLDER / "results.json").read_text())
    for name, found in results.items():
        picture(found).savefig(FOLDER / f"{name}.png", dpi=110)
    speed = json.loads((FOLDER / "speed.json").read_text())
    page = (FOLDER / "template.md").read_text()
    page = page.replace("<!-- summary -->", summary(results))
    page = page.replace("<!-- speed -->", speed_line(speed))
    page = page.replace("<!-- sets -->", "\n".join(section(*item) for item in results.items()))
    (FOLDER / "README.md").write_text(page)


def picture(found: Mapping[str, Any]) -> Figure:
    """Accuracy against tokens, where the budget never binds."""
    static, oracle = (
        ParetoFront(np.array(one["tokens"]), np.array(one["accuracy"]))
        for one in (found["fronts"]["static"], found["fronts"]["oracle"])
    )
    marked = [
        Marked(
            row["label"],
            row["family"],
            Comparison(**{name: tuple(values) for name, values in row["figures"].items()}),
        )
        for row in found["rows"]["unbound"]
    ]
    return draw_fronts(found["title"], static, oracle, marked)


def summary(results: Mapping[str, Any]) -> str:
    """One line per environment and learned policy, where the budget never binds."""
    lines = [_line(SUMMARY_HEADS), "|" + "---|" * len(SUMMARY_HEADS)]
    for found in results.values():
        rows = found["rows"]["unbound"]
        static = _static(rows)["figures"]
        for row in rows:
            if row["label"].startswith("TAB"):
                figures = row["figures"]
                accuracy = f"{figures['accuracy'][0]:.3f} ({static['accuracy'][0]:.3f})"
                saved = _share(figures["saved"])
                cells = (
                    found["title"],
                    row["label"],
                    accuracy,
                    saved,
                    _change(row, static),
                    f"{found['oracle']['saved']:.0%}",
                )
                lines.append(_line(cells))
    return "\n".join(lines)


def section(name: str, found: Mapping[str, Any]) -> str:
    counts, oracle = found["problems"], found["oracle"]
    sizes = [f"{counts[split]['problems']} {split}" for split in ("train", "val", "test")]
    turns = counts["test"]["turns"] / counts["test"]["problems"]
    choices = ", ".join(map(str, found["choices"]))
    facts = (
        f"Problems: {', '.join(sizes)}, of {turns:.1f} turns. Choices: {choices} tokens. A "
        f"clairvoyant needs {oracle['tokens']:.0f} tokens for the tuned static budget's accuracy: "
        f"{oracle['saved']:.0%} less. {found['cpu_s']} s of CPU."
    )
    parts = [
        f"## {found['title']}\n",
        textwrap.fill(facts, 120) + "\n",
        f"![accuracy against tokens]({name}.png)\n",
    ]
    for budget, title in BUDGETS.items():
        parts.append(f"**{title}: {found['budgets'][budget]} tokens**\n")
        parts.append(table(found["rows"][budget]) + "\n")
    parts.append(f"![learning curves]({name}_learning.png)\n")
    return "\n".join(parts)


def table(rows: list[Mapping[str, Any]]) -> str:
    static = _static(rows)["figures"]
    lines = [_line(HEADS), "|" + "---|" * len(HEADS)]
    for row in rows:
        figures = row["figures"]
        cells = (
            row["label"],
            row["setting"],
            _number(figures["accuracy"], ".3f"),
            _number(figures["tokens"], ".0f"),
            _change(row, static),
            _share(figures["saved"]) if row["label"].startswith("TAB") else "",
            _number(figures["gained"], "+.3f") if row["label"].startswith("TAB") else "",
            f"{figures['e3'][0] * 1e6:.0f}",
            str(row["violations"]),
        )
        lines.append(_line(cells))
    return "\n".join(lines)


def speed_line(speed: Mapping[str, Any]) -> str:
    parts = [
        f"{us:.0f} µs for {kind} ({speed['share_of_embedding'][kind]:.2f} times a short question's "
        f"embedding)"
        for kind, us in speed["proposal_us"].items()
    ]
    return textwrap.fill(f"One proposal takes {', '.join(parts)}, of CPU.", 120)


def _static(rows: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next(row for row in rows if row["label"] == "static")


def _change(row: Mapping[str, Any], static: Mapping[str, Any]) -> str:
    return f"{row['figures']['tokens'][0] / static['tokens'][0] - 1:+.0%}"


def _number(values: tuple[float, float, float], form: str) -> str:
    mean, low, high = values
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def _share(values: tuple[float, float, float]) -> str:
    mean, low, high = values
    return f"{mean:.0%} [{low:.0%}, {high:.0%}]"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
