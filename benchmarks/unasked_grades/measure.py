"""How often the classifiers of `gateway.grading` are right, on sentences with labels.

    python -m benchmarks.unasked_grades.measure
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from gateway.grading.phrases import Phrases, load_phrases

FOLDER = Path(__file__).parent
CLASSES = {"reaction": ("corrected", "thanked", "again"), "refusal": ("yes",)}


def read_sentences(part: str) -> list[dict[str, Any]]:
    """Read the labelled sentences: of part ``dev``, which the lists were made with, or ``test``."""
    lines = (FOLDER / "sentences.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["part"] == part]


def predicted(row: dict[str, Any], phrases: Phrases) -> str:
    """Say what the gateway takes a sentence for."""
    if row["kind"] == "refusal":
        return "yes" if phrases.is_refusal(row["text"]) else "no"
    reaction = phrases.reaction_in(row["text"])
    return reaction or ("again" if phrases.asks_again(row["text"]) else "none")


def figures(part: str) -> dict[str, dict[str, float]]:
    """Return precision and recall of each class."""
    phrases = load_phrases()
    found: Counter[tuple[str, str, str]] = Counter()
    for row in read_sentences(part):
        found[row["kind"], row["label"], predicted(row, phrases)] += 1
    told: dict[str, dict[str, float]] = {}
    for kind, classes in CLASSES.items():
        for name in classes:
            right = found[kind, name, name]
            said = sum(n for (k, _, p), n in found.items() if (k, p) == (kind, name))
            real = sum(n for (k, true, _), n in found.items() if (k, true) == (kind, name))
            told[f"{kind}: {name}"] = {
                "sentences": real,
                "precision": right / said if said else 1.0,
                "recall": right / real,
            }
    return told


def main() -> None:
    """Print the figures, and what was taken for something else, and keep the figures."""
    phrases, results = load_phrases(), {part: figures(part) for part in ("dev", "test")}
    for part, told in results.items():
        for name, numbers in told.items():
            print(part, name, *(f"{key} {value:.3g}" for key, value in numbers.items()), sep="  ")
    for row in read_sentences("test"):
        if (said := predicted(row, phrases)) != row["label"]:
            print(f"{row['label']} taken for {said}: {row['text']}")
    (FOLDER / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
