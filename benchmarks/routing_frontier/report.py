"""Tables and pictures of the routing benchmark."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from gateway.problems.datasets import Dataset
from gateway.problems.frontier_pictures import draw_frontiers
from router_models.evaluation.frontier import Judge, Outcomes
from router_models.training.settings import KINDS

COLUMNS: Final = {
    "quality_first": "quality, cost no object",
    "best_quality": "best quality at any λ",
    "common_auc": "AUC, common range",
    "own_range_auc": "AUC, own range",
    "naiq": "nAIQ",
    "saved_at_99": "saved at 99 %",
    "saved": "saved at 100 %",
}
SHOWN: Final = ("kmeans (static)", "mlp (static)", "knn (static)", "ridge (static)")
STATED: Final = {
    "zeroeval": 0.774,
    "mmlu_pro": 0.727,
    "reasoning_gym": 0.855,
    "llmrouter_ulab": 0.669,
}


def labels_of(name: str, dataset: Dataset) -> tuple[str, ...]:
    """What a task is in each set: its label, or the family or subject inside a set of one task."""
    if name == "reasoning_gym":
        return tuple(query.split("/")[1] for query in dataset.query_ids)
    if name == "mmlu_pro":
        return dataset.domains
    return dataset.tasks


def draw(file: Path, name: str, judge: Judge, routers: Mapping[str, Outcomes]) -> None:
    """One picture: frontiers of the static encoder's routers and of the baseline."""
    chosen = {k: v.points() for k, v in routers.items() if k in SHOWN or "untuned" in k}
    figure = Figure(figsize=(8.4, 5.2), layout="constrained")
    singles, oracle = judge.single_models.points(), judge.oracle.points()
    draw_frontiers(figure.subplots(), name, singles, oracle, chosen)
    figure.savefig(file, dpi=110)


def render(results: Mapping[str, Any]) -> str:
    """The README, from results.json alone."""
    template = Path(__file__).with_name("template.md").read_text()
    parts = [_set(name, found) for name, found in results.items()]
    return template.replace("<!-- summary -->", _targets(results)).replace(
        "<!-- sets -->", "\n".join(parts)
    )


def _targets(results: Mapping[str, Any]) -> str:
    lines = [
        "| set | stated | TF-IDF + ridge | kmeans (static) | gain | highest of 8 on test | gain |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in results.items():
        routers = found["routers"]
        ours = [k for k in routers if k.split(" (")[0] in KINDS]
        best = max(ours, key=lambda label: routers[label]["quality_first"]["value"])
        default, highest = (routers[k]["quality_first"] for k in ("kmeans (static)", best))
        base = routers["tfidf-ridge (untuned)"]["quality_first"]["value"]
        lines.append(
            f"| {name} | {STATED[name]:.3f} | {base:.4f} | {default['value']:.4f} | "
            f"{_gain(default)} | {best} {highest['value']:.4f} | {_gain(highest)} |"
        )
    return "\n".join(lines)


def _set(name: str, found: Mapping[str, Any]) -> str:
    best = found["best_single"]
    lines = [
        f"## {name}",
        "",
        (
            f"{found['train_queries']} train, {found['val_queries']} validation, "
            f"{found['test_queries']} test queries, {found['models']} models."
        ),
        (
            f"Best single model: {best['model']}, quality {best['quality']:.4f} "
            f"at {best['cost_usd'] * 1000:.3f} USD per 1,000 queries."
        ),
        "",
        f"![{name}]({name}.png)",
        "",
        "| router | " + " | ".join(COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for label, figures in found["routers"].items():
        cells = [_cell(figures[column]) for column in COLUMNS]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines += ["", "Over the untuned TF-IDF + ridge, paired by query:", ""]
    lines += [
        "| router | quality, cost no object | AUC, common range | nAIQ |",
        "|---|---|---|---|",
    ]
    for label, figures in found["routers"].items():
        if "over_tfidf" in figures["naiq"] and "untuned" not in label:
            shown = ("quality_first", "common_auc", "naiq")
            lines.append(f"| {label} | " + " | ".join(_gain(figures[c]) for c in shown) + " |")
    lines += ["", *_held_out(found["held_out_tasks"]), *_random(found["random_splits"])]
    lines += ["<details><summary>Settings</summary>", ""]
    lines += [_settings(router, chosen) for router, chosen in found["settings"].items()]
    return "\n".join([*lines, "", "</details>", ""])


def _settings(router: str, chosen: Mapping[str, Any]) -> str:
    told = f"- {router}: {', '.join(f'{name} {value}' for name, value in chosen.items())}"
    return textwrap.fill(told, 120, subsequent_indent="  ")


def _cell(figure: Mapping[str, Any]) -> str:
    if "interval" not in figure:
        return f"{figure['value']:.4f}"
    low, high = figure["interval"]
    return f"{figure['value']:.4f} [{low:.3f}, {high:.3f}]"


def _gain(figure: Mapping[str, Any]) -> str:
    low, high = figure["over_tfidf_interval"]
    return f"{figure['over_tfidf']:+.4f} [{low:+.4f}, {high:+.4f}]"


def _held_out(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    lines = ["Whole tasks held out (quality, cost no object; queries weighted alike):", ""]
    lines += ["| | static | minilm |", "|---|---|---|"]
    lines += [
        f"| {k} | {v:.4f} | {_or_dash(found['minilm'].get(k))} |"
        for k, v in found["static"].items()
    ]
    return [*lines, ""]


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _random(found: Mapping[str, list[float]]) -> list[str]:
    if not found:
        return []
    lines = ["Five random 70/10/20 splits (quality, cost no object):", ""]
    lines += ["| | mean | each |", "|---|---|---|"]
    for label, values in found.items():
        each = ", ".join(f"{value:.4f}" for value in values)
        lines.append(f"| {label} | {sum(values) / len(values):.4f} | {each} |")
    return [*lines, ""]
