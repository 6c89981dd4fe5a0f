"""Questions whose answers can be checked, of three kinds that the embedded models answer unequally.

Drawn anew for each demonstration: no router that ships has seen them, and none needs to.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

WORDS: Final = (
    *("apple", "basket", "button", "candle", "coffee", "forest", "garden", "guitar", "hammer"),
    *("jacket", "kitchen", "ladder", "mirror", "needle", "orange", "pencil", "pillow", "planet"),
    *("rocket", "silver", "table", "ticket", "violin", "window", "winter", "yellow"),
)


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        verifier: What is right, in the form that ``POST /v1/feedback`` takes.
    """

    kind: str
    text: str
    verifier: Mapping[str, Any]


def draw_questions(rng: random.Random, count: int) -> list[Question]:
    """Draw different questions, of each kind as many, in random order."""
    makers = list(KINDS.items())
    found: dict[str, Question] = {}
    while len(found) < count:
        kind, make = makers[len(found) % len(makers)]
        text, verifier = make(rng)
        found.setdefault(text, Question(kind, text, verifier))
    questions = list(found.values())
    rng.shuffle(questions)
    return questions


def _repeat(rng: random.Random) -> tuple[str, Mapping[str, Any]]:
    words = " ".join(rng.sample(WORDS, rng.randint(3, 5)))
    return f"Repeat exactly: {words}", {"kind": "exact", "reference": words}


def _count(rng: random.Random) -> tuple[str, Mapping[str, Any]]:
    words = rng.sample(WORDS, rng.randint(2, 5))
    return f"How many words are in this list: {', '.join(words)}?", _number(len(words))


def _multiply(rng: random.Random) -> tuple[str, Mapping[str, Any]]:
    a, b = rng.randint(2, 29), rng.randint(2, 12)
    form = rng.choice(("What is {a} * {b}?", "Calculate {a} x {b}.", "{a} times {b} equals what?"))
    return form.format(a=a, b=b), _number(a * b)


def _number(value: int) -> Mapping[str, Any]:
    return {"kind": "numeric", "reference": str(value)}


Maker = Callable[[random.Random], tuple[str, Mapping[str, Any]]]
KINDS: Final[Mapping[str, Maker]] = {
    "repeat": _repeat,
    "count": _count,
    "multiply": _multiply,
}
