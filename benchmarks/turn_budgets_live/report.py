"""Write README.md from results.json: `python -m benchmarks.turn_budgets_live.report`."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

HERE: Final = Path(__file__).parent
NAMES: Final = {
    "off": "off: the model's own limit, 128 a turn",
    "static": "static: `max_tokens` 32 a turn, no turn budget",
    "split": "turn budget, built-in `split`",
    "tab": "turn budget, TAB",
}
DRAWS: Final = 10_000
Figures = NDArray[np.float64]


def figures(results: dict[str, Any]) -> dict[str, tuple[Figures, Figures]]:
    """Return accuracy and tokens of every conversation, by arm; shape ``(n,)`` each."""
    return {
        arm: (
            np.array([np.mean([turn["score"] for turn in one]) for one in conversations]),
            np.array([sum(turn["tokens"] for turn in one) for one in conversations], float),
        )
        for arm, conversations in results["arms"].items()
    }


def resample(n: int, seed: int = 0) -> NDArray[np.int64]:
    """Draw conversations with replacement; shape ``(DRAWS, n)``."""
    return np.random.default_rng(seed).integers(n, size=(DRAWS, n))


def interval(drawn: Figures, form: str) -> str:
    """Write the middle 95 % of bootstrap draws."""
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{low:{form}} to {high:{form}}"


def table(results: dict[str, Any]) -> list[str]:
    """Compare the arms over all conversations."""
    measured = figures(results)
    rows = resample(len(results["seeds"]))
    base_right, base_tokens = measured["off"]
    lines = [
        (
            "| | right per turn (95 %) | tokens per conversation (95 %) | right, against off "
            "| tokens, against off | accuracy² per 1,000 tokens | over the budget |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for arm, (right, tokens) in measured.items():
        saved = tokens[rows].mean(1) / base_tokens[rows].mean(1) - 1
        over = int((tokens > results["budget_tokens"]).sum())
        lines.append(
            f"| {NAMES[arm]} | {right.mean():.3f} ({interval(right[rows].mean(1), '.3f')}) "
            f"| {tokens.mean():.0f} ({interval(tokens[rows].mean(1), '.0f')}) "
            f"| {(right - base_right).mean():+.3f} "
            f"({interval((right - base_right)[rows].mean(1), '+.3f')}) "
            f"| {tokens.mean() / base_tokens.mean() - 1:+.0%} ({interval(saved, '+.0%')}) "
            f"| {right.mean() ** 2 / tokens.mean() * 1000:.2f} | {over} of {len(tokens)} |"
        )
    return lines


def by_seed(results: dict[str, Any]) -> list[str]:
    """Show that no seed alone makes the picture."""
    seeds = np.array(results["seeds"])
    lines = ["| seed | " + " | ".join(results["arms"]) + " |"]
    lines.append("|---" * (1 + len(results["arms"])) + "|")
    for seed in sorted(set(results["seeds"])):
        cells = [
            f"{right[seeds == seed].mean():.3f}, {tokens[seeds == seed].mean():.0f} tokens"
            for right, tokens in figures(results).values()
        ]
        lines.append(f"| {seed} | " + " | ".join(cells) + " |")
    return lines


def against_static(results: dict[str, Any]) -> str:
    """Compare TAB with the static limit, conversation by conversation."""
    measured = figures(results)
    rows = resample(len(results["seeds"]))
    (right, tokens), (base_right, base_tokens) = measured["tab"], measured["static"]
    more, cheaper = right - base_right, tokens[rows].mean(1) / base_tokens[rows].mean(1) - 1
    return (
        f"TAB against the static limit: {more.mean():+.3f} right per turn "
        f"({interval(more[rows].mean(1), '+.3f')}), "
        f"{tokens.mean() / base_tokens.mean() - 1:+.0%} tokens ({interval(cheaper, '+.0%')})."
    )


def endings(results: dict[str, Any]) -> str:
    """Count how turns ended."""
    parts = []
    for arm, conversations in results["arms"].items():
        ended = [turn["finish_reason"] for one in conversations for turn in one]
        cut, refused = ended.count("length"), ended.count("refused")
        parts.append(f"{arm} {cut} cut off, {refused} refused")
    return f"Of {len(ended)} turns in each arm:\n" + "; ".join(parts) + "."


def main() -> None:
    results = json.loads((HERE / "results.json").read_text())
    text = (HERE / "template.md").read_text()
    parts = {
        "TABLE": "\n".join(table(results)),
        "SEEDS": "\n".join(by_seed(results)),
        "STATIC": against_static(results),
        "ENDINGS": endings(results),
        "BUDGET": str(results["budget_tokens"]),
        "CONVERSATIONS": str(len(results["seeds"])),
        "MODEL": results["model"],
    }
    for name, part in parts.items():
        text = text.replace("{" + name + "}", part)
    (HERE / "README.md").write_text(text)


if __name__ == "__main__":
    main()
