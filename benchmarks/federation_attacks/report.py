"""Writes the tables and pictures of the attack benchmark."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

Row = Mapping[str, Any]

TITLES: Final = {"kmeans": "K-means", "mlp": "MLP"}


def write(results: Row, folder: Path) -> None:
    """Fill the template and draw the pictures."""
    template = (folder / "template.md").read_text(encoding="utf-8")
    tables = {
        "{membership_kmeans}": membership_table(results, "kmeans"),
        "{membership_mlp}": membership_table(results, "mlp"),
        "{poisoning_mlp}": poisoning_table(results["poisoning"], "mlp"),
        "{poisoning_kmeans}": poisoning_table(results["poisoning"], "kmeans"),
    }
    for mark, text in tables.items():
        template = template.replace(mark, text)
    (folder / "README.md").write_text(template, encoding="utf-8")
    draw(results, folder / "leaks.png")


def membership_table(results: Row, kind: str) -> str:
    """AUC and share found at 1 % false positives per message, and what routing is left."""
    rows = [row for row in results["membership"] if row["kind"] == kind]
    messages = list(rows[0]["attacks"])
    head = ["protection", *messages, "common AUC", "quality first"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [row["arm"]]
        for message in messages:
            found = row["attacks"].get(message)
            text = "not sent" if found is None else f"{found['auc']:.3f} / {found['found']:.1%}"
            cells.append(text)
        cells += [f"{fmean(values):.3f}" for values in row["routing"].values()]
        lines.append(cells)
    for name, figures in results["references"].items():
        lines.append([name, *[""] * len(messages), *[f"{value:.3f}" for value in figures.values()]])
    return _markdown(lines)


def poisoning_table(rows: Sequence[Row], kind: str) -> str:
    """Common AUC under attack, and the share of queries that went to the attackers' model."""
    rows = [row for row in rows if row["kind"] == kind]
    defences = list(dict.fromkeys(row["defence"] for row in rows))
    lines = [["attack", *defences], ["---"] * (len(defences) + 1)]
    for attack, attackers in dict.fromkeys((row["attack"], row["attackers"]) for row in rows):
        name = attack if attack == "nobody" else f"{attack}, {attackers} of 10"
        cells = [name]
        for defence in defences:
            (row,) = [
                r
                for r in rows
                if (r["attack"], r["attackers"], r["defence"]) == (attack, attackers, defence)
            ]
            cells.append(_outcome(row))
        lines.append(cells)
    return _markdown(lines)


def draw(results: Row, file: Path) -> None:
    """Attack strength against what routing is left, a point per protection."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5))
    for axis, kind in zip(axes, TITLES, strict=True):
        for row in results["membership"]:
            if row["kind"] != kind:
                continue
            strongest = max(found["auc"] for found in row["attacks"].values())
            routed = fmean(row["routing"]["common_auc"])
            axis.plot(strongest, routed, "o")
            axis.annotate(row["arm"], (strongest, routed), fontsize=7, xytext=(4, 3),
                          textcoords="offset points")  # fmt: skip
        for name, figures in results["references"].items():
            height = figures["common_auc"]
            axis.axhline(height, color="grey", linewidth=0.8, linestyle="--")
            axis.annotate(name, (0.66, height), fontsize=7, color="grey", va="bottom")
        axis.axvline(0.5, color="grey", linewidth=0.8, linestyle=":")
        axis.set_xlim(0.49, 0.78)
        axis.set_title(TITLES[kind])
        axis.set_xlabel("AUC of the strongest membership attack (0.5 is guessing)")
        axis.set_ylabel("routing: common AUC")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _outcome(row: Row) -> str:
    if "common_auc" not in row:
        return "no router"
    return f"{row['common_auc']:.3f} ({row['to_victim']:.0%})"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
