"""How often the classifiers of `gateway.grading` are right, on sentences with labels.

`python -m benchmarks.unasked_grades.measure --data DIR` counts real questions and solutions too, of
the tables of evaluations in DIR, that are taken for what they are not.
"""

import argparse
import json
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

from gateway.grading.languages import load_languages
from gateway.grading.loops import is_loop
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


def false_alarms(folder: Path) -> dict[str, int]:
    """Count questions taken for reactions, and solutions taken for refusals or loops."""
    parquet = import_module("pyarrow.parquet")
    phrases, languages = load_phrases(), load_languages()
    found = Counter(dict.fromkeys(("questions", "reactions", "solutions", "refusals"), 0))
    for file in sorted(folder.glob("*.queries.parquet")):
        for text in filter(None, parquet.read_table(file, columns=["text"])["text"].to_pylist()):
            found["questions"] += 1
            found["reactions"] += bool(phrases.reaction_in(text) or phrases.asks_again(text))
            found["loops"] += is_loop(text)
    for row in parquet.read_table(folder / "reasoning_qa.parquet").to_pylist():
        if row["solution"]:
            found["solutions"] += 1
            found["refusals"] += phrases.is_refusal(row["solution"])
            found["loops"] += is_loop(row["solution"])
            found["other languages"] += languages.differ(row["question"], row["solution"])
    return dict(found)


def main() -> None:
    """Print the figures, and what was taken for something else, and keep the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    data = parser.parse_args().data
    phrases = load_phrases()
    results: dict[str, Any] = {part: figures(part) for part in ("dev", "test")}
    for part in ("dev", "test"):
        for name, numbers in results[part].items():
            print(part, name, *(f"{key} {value:.3g}" for key, value in numbers.items()), sep="  ")
    for row in read_sentences("test"):
        if (said := predicted(row, phrases)) != row["label"]:
            print(f"{row['label']} taken for {said}: {row['text']}")
    if data is not None:
        results["false alarms"] = false_alarms(data)
        print(results["false alarms"])
    (FOLDER / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
