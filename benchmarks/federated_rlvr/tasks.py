"""Questions with verifiable answers: four kinds made up here, or a file of one's own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np

from federation.reasoner.prompts import Prompt, parse_prompts

Table = dict[str, Any]

WORDS: Final = (
    "cat sun tree book fish bird milk rain door lamp ship king gold star hand road snow moon cake "
    "frog wind salt ring rock leaf boat bell nest corn hat"
)
ANIMALS: Final = (
    "dog cat horse cow lion tiger bear wolf fox sheep goat pig rabbit mouse deer monkey elephant "
    "giraffe zebra camel donkey duck eagle owl snake frog shark whale dolphin turtle"
)
THINGS: Final = (
    "hammer saw table chair car spoon lamp shirt house phone book door bottle window pencil "
    "clock shoe cup bed knife plate ladder bridge candle mirror ring box rope coin basket"
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many questions of each kind are private, public and for the test."""

    private: int
    public: int
    test: int


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """What one seed deals out; no question is in two places.

    Attributes:
        private: By client; each has one kind.
        public: All kinds in turn.
        test: By kind.
    """

    private: Mapping[str, Sequence[Prompt]]
    public: Sequence[Prompt]
    test: Mapping[str, Sequence[Prompt]]


def _larger(rng: np.random.Generator) -> tuple[str, str]:
    one, other = rng.choice(np.arange(10, 100), 2, replace=False)
    return f"Which is larger, {one} or {other}?", str(max(one, other))


def _sum(rng: np.random.Generator) -> tuple[str, str]:
    one, other = rng.integers(0, 10, 2)
    return f"What is {one} plus {other}?", str(one + other)


def _count(rng: np.random.Generator) -> tuple[str, str]:
    word, often = str(rng.choice(WORDS.split())), int(rng.integers(2, 7))
    return f"How many words: {' '.join([word] * often)}?", str(often)


def _animal(rng: np.random.Generator) -> tuple[str, str]:
    animal = str(rng.choice(ANIMALS.split()))
    three = rng.permutation([animal, *rng.choice(THINGS.split(), 2, replace=False)])
    return f"Which of these is an animal: {', '.join(three)}?", animal


KINDS: Final[Mapping[str, Callable[[np.random.Generator], tuple[str, str]]]] = {
    "larger": _larger,
    "sum": _sum,
    "count": _count,
    "animal": _animal,
}


def made_up(sizes: Sizes, seed: int) -> World:
    """Make up a world of the four kinds."""
    needed = sizes.private + sizes.public + sizes.test
    return _deal({kind: list(islice(_questions(kind, seed), needed)) for kind in KINDS}, sizes)


def from_tables(tables: Sequence[Mapping[str, Any]], sizes: Sizes, seed: int) -> World:
    """Deal out a file's questions, one kind to each client.

    A row's kind is its `task`; rows without one are four kinds by the length of their text.

    Raises:
        ValueError: There are too few of a kind.
    """
    lengths = np.argsort([len(str(table["text"])) for table in tables], kind="stable")
    quarters = np.empty(len(tables), int)
    quarters[lengths] = 4 * np.arange(len(tables)) // len(tables)
    kinds: dict[str, list[Table]] = {}
    for place in np.random.default_rng(seed).permutation(len(tables)):
        table = dict(tables[place])
        table["task"] = str(table.get("task") or f"length {quarters[place] + 1}")
        kinds.setdefault(table["task"], []).append(table)
    return _deal(dict(sorted(kinds.items())), sizes)


def _questions(kind: str, seed: int) -> Iterator[Table]:
    """Yield questions without end until a kind has no more."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    seen: set[str] = set()
    while True:
        text, answer = KINDS[kind](rng)
        if text not in seen:
            seen.add(text)
            verifier = {"kind": "exact", "reference": answer}
            yield {"id": f"{kind} {len(seen)}", "text": text, "task": kind, "verifier": verifier}


def _deal(kinds: Mapping[str, Sequence[Table]], sizes: Sizes) -> World:
    first, second = sizes.private, sizes.private + sizes.public
    last = second + sizes.test
    parsed = {kind: _parse(tables[:last]) for kind, tables in kinds.items()}
    short = [kind for kind, prompts in parsed.items() if len(prompts) < last]
    if short:
        raise ValueError(f"fewer than {last} questions of {', '.join(short)}")
    return World(
        private={kind: prompts[:first] for kind, prompts in parsed.items()},
        public=[
            prompt
            for several in zip(*(one[first:second] for one in parsed.values()), strict=True)
            for prompt in several
        ],
        test={kind: prompts[second:] for kind, prompts in parsed.items()},
    )


def _parse(tables: Sequence[Table]) -> list[Prompt]:
    return parse_prompts((f"question {place}", table) for place, table in enumerate(tables))
