"""Builds the calibration prompts: verifiable tasks that a model of 135 M parameters can partly do.

Generated tasks come from a seed. Real ones are a small sample of published question sets, all under
the MIT licence: SVAMP (arkilpatel/SVAMP) and MAWPS as collected by microsoft/ToRA,
StrategyQA (eladsegal/strategyqa), BIG-Bench Hard (suzgunmirac/BIG-Bench-Hard).
"""

import hashlib
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.embedded_pool.subjects import (
    CAPITALS,
    CITIES,
    EXPLAINED,
    NAMES,
    OPPOSITES,
    REVIEWS,
    SUBJECTS,
    WORDS,
)

SEED = 20261122


@dataclass(frozen=True, slots=True)
class Draft:
    text: str
    verifier: dict[str, Any]


def build(reasoning_qa: Path | None, per_task: int) -> list[dict[str, Any]]:
    """Return the prompts in the form that `waypost calibrate` reads."""
    rows = []
    for task, make in GENERATED.items():
        rng = random.Random(f"{SEED}/{task}")
        rows += _rows(task, _distinct(make, rng, per_task))
    if reasoning_qa is not None:
        for task, drafts in _real(reasoning_qa, per_task).items():
            rows += _rows(task, drafts)
    # Mixed, so that a run that is cut short has asked of every task.
    random.Random(SEED).shuffle(rows)
    return rows


def write(rows: Sequence[dict[str, Any]], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _rows(task: str, drafts: Sequence[Draft]) -> list[dict[str, Any]]:
    return [
        {
            "query_id": f"{task}/{hashlib.sha256(d.text.encode()).hexdigest()[:12]}",
            "text": d.text,
            "task": task,
            "verifier": d.verifier,
        }
        for d in drafts
    ]


def _distinct(
    make: Callable[[random.Random], Draft], rng: random.Random, count: int
) -> list[Draft]:
    found: dict[str, Draft] = {}
    for _ in range(50 * count):
        draft = make(rng)
        found.setdefault(draft.text, draft)
        if len(found) == count:
            break
    return list(found.values())


def numeric(value: float | str) -> dict[str, Any]:
    return {"kind": "numeric", "reference": str(value)}


def compare(rng: random.Random) -> Draft:
    a, b = rng.sample(range(10, 1000), 2)
    word, right = rng.choice((("larger", max(a, b)), ("smaller", min(a, b))))
    form = rng.choice(("Which number is {w}, {a} or {b}?", "{a} and {b}: which of the two is {w}?"))
    return Draft(form.format(w=word, a=a, b=b), {"kind": "regex", "pattern": rf"^\D*{right}\b"})


def copy(rng: random.Random) -> Draft:
    text = " ".join(rng.sample(WORDS, rng.randint(3, 6)))
    form = rng.choice(("Repeat exactly: {t}", "Copy this line and write nothing else: {t}"))
    return Draft(form.format(t=text), {"kind": "exact", "reference": text})


def to_json(rng: random.Random) -> Draft:
    name, age, city = rng.choice(NAMES), rng.randint(18, 80), rng.choice(CITIES)
    schema = {
        "type": "object",
        "properties": {"name": {"const": name}, "age": {"const": age}, "city": {"const": city}},
        "required": ["name", "age", "city"],
    }
    form = rng.choice(
        (
            (
                "Write as JSON with the keys name, age and city: "
                "{n} is {a} years old and lives in {c}."
            ),
            'Turn into a JSON object with "name", "age" (number) and "city": {n}, {a}, from {c}.',
        )
    )
    return Draft(form.format(n=name, a=age, c=city), {"kind": "json_schema", "schema": schema})


def count_words(rng: random.Random) -> Draft:
    words = rng.sample(WORDS, rng.randint(2, 7))
    return Draft(f"How many words are in this list: {', '.join(words)}?", numeric(len(words)))


def add(rng: random.Random) -> Draft:
    a, b = rng.randint(1, 60), rng.randint(1, 40)
    form = rng.choice(("What is {a} + {b}?", "Calculate {a} + {b}.", "{a} plus {b} equals what?"))
    return Draft(form.format(a=a, b=b), numeric(a + b))


def subtract(rng: random.Random) -> Draft:
    a, b = sorted((rng.randint(1, 60), rng.randint(1, 60)), reverse=True)
    form = rng.choice(("What is {a} - {b}?", "Calculate {a} - {b}.", "{a} minus {b} equals what?"))
    return Draft(form.format(a=a, b=b), numeric(a - b))


def multiply(rng: random.Random) -> Draft:
    a, b = rng.randint(2, 12), rng.randint(2, 12)
    form = rng.choice(("What is {a} * {b}?", "Calculate {a} x {b}.", "{a} times {b} equals what?"))
    return Draft(form.format(a=a, b=b), numeric(a * b))


def capital(rng: random.Random) -> Draft:
    country = rng.choice(list(CAPITALS))
    form = rng.choice(("What is the capital of {c}?", "Name the capital city of {c}."))
    return Draft(form.format(c=country), {"kind": "regex", "pattern": rf"\b{CAPITALS[country]}\b"})


def opposite(rng: random.Random) -> Draft:
    word = rng.choice(list(OPPOSITES))
    form = rng.choice(('What is the opposite of "{w}"?', "Give an antonym of {w}."))
    return Draft(form.format(w=word), {"kind": "regex", "pattern": rf"(?i)\b({OPPOSITES[word]})\b"})


def email(rng: random.Random) -> Draft:
    name, host = rng.choice(NAMES).lower(), rng.choice(WORDS)
    address = f"{name}.{rng.choice(WORDS)}@{host}.{rng.choice(('com', 'org', 'net'))}"
    text = rng.choice(
        (
            "Please write to {a} before Friday if you want a seat.",
            "My new address is {a}, the old one no longer works.",
            "Questions? Ask {n} at {a} or call the office.",
        )
    ).format(a=address, n=name.title())
    lead = r"(the (new )?(e-?mail )?address (in this text )?is\W*)?"
    return Draft(
        f"Extract the email address from this text: {text}",
        {"kind": "regex", "pattern": rf"(?i)^\W*{lead}{re.escape(address)}\W*$"},
    )


def sentiment(rng: random.Random) -> Draft:
    label = rng.choice(list(REVIEWS))
    form = rng.choice(
        (
            "Is this review positive or negative? {r}",
            "Classify the sentiment (positive or negative): {r}",
        )
    )
    return Draft(
        form.format(r=rng.choice(REVIEWS[label])),
        {"kind": "choice", "reference": label, "choices": ["positive", "negative"]},
    )


def explain(rng: random.Random) -> Draft:
    subject = rng.choice(list(EXPLAINED))
    form = rng.choice(
        ("Explain what {s} is.", "What is {s}? Explain it to a child.", "Tell me about {s}.")
    )
    return Draft(form.format(s=subject), mentions(EXPLAINED[subject], 80))


def write_text(rng: random.Random) -> Draft:
    subject = rng.choice(SUBJECTS)
    form = rng.choice(
        (
            "Write a short story about a {s}.",
            "Write a poem about a {s}.",
            "Write a few sentences about a {s}.",
        )
    )
    return Draft(form.format(s=subject), mentions(subject, 150))


def mentions(words: str, least_chars: int) -> dict[str, Any]:
    """A crude check of open answers: on the subject, and not a word or two."""
    long = f".{{{least_chars},}}"
    return {"kind": "regex", "pattern": f"(?is)({words}){long}|{long}({words})"}


GENERATED: dict[str, Callable[[random.Random], Draft]] = {
    "add": add,
    "capital": capital,
    "compare": compare,
    "copy": copy,
    "count-words": count_words,
    "email": email,
    "explain": explain,
    "json": to_json,
    "multiply": multiply,
    "opposite": opposite,
    "sentiment": sentiment,
    "subtract": subtract,
    "write": write_text,
}


def _real(file: Path, per_task: int) -> dict[str, list[Draft]]:
    table = pq.read_table(
        file, columns=["dataset", "question", "answer", "subject", "split"]
    ).to_pylist()
    drafts: dict[str, list[Draft]] = {}
    for task, candidates in _candidates(table).items():
        rng = random.Random(f"{SEED}/{task}")
        short = [draft for draft in candidates if len(draft.text) <= 350]
        drafts[task] = rng.sample(short, per_task)
    return drafts


def _candidates(table: Sequence[dict[str, Any]]) -> dict[str, list[Draft]]:
    found: dict[str, list[Draft]] = {"svamp": [], "mawps": [], "strategyqa": [], "boolean": []}
    for row in table:
        dataset, question, answer = row["dataset"], row["question"], row["answer"]
        if dataset in {"svamp", "mawps"}:
            found[dataset].append(Draft(question, numeric(answer)))
        elif dataset == "strategyqa":
            spec = {"kind": "choice", "reference": answer, "choices": ["yes", "no"]}
            found[dataset].append(Draft(question, spec))
        elif dataset == "bbh" and row["subject"] == "boolean_expressions":
            spec = {"kind": "choice", "reference": answer.lower(), "choices": ["true", "false"]}
            found["boolean"].append(Draft(f"True or false? {question}", spec))
    return found
