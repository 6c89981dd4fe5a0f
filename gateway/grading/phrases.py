"""Small transparent classifiers of what people and models write: lists of phrases, by language.

They are made to be right when they say yes, and to say yes seldom; how often they are is measured
by `python -m benchmarks.unasked_grades.measure`. The phrases are in `data/phrases.toml`.
"""

import importlib.resources
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from router_models.unicode_forms import nfkc

READ_CHARS: Final = 600
"""The beginning of a text is what is matched, so that no pattern takes long."""
LONGEST_REFUSAL_CHARS: Final = 1_500
"""A longer answer that begins like a refusal goes on to answer."""
LONGEST_REACTION_CHARS: Final = 1_000
"""A longer message is a text to work on, whatever it begins with."""
LONGEST_AFTER_THANKS_CHARS: Final = 120

Reaction = Literal["corrected", "thanked"]


@dataclass(frozen=True, slots=True)
class Phrases:
    """How refusals, corrections, thanks and repeated questions begin."""

    refusal: re.Pattern[str]
    correction: re.Pattern[str]
    thanks: re.Pattern[str]
    but: re.Pattern[str]
    again: re.Pattern[str]

    def is_refusal(self, answer: str) -> bool:
        """Whether a model says that it will not or cannot do what was asked, and no more."""
        return len(answer) <= LONGEST_REFUSAL_CHARS and bool(self.refusal.match(_plain(answer)))

    def reaction_in(self, message: str) -> Reaction | None:
        """Say whether a message corrects the answer before it, or thanks for it."""
        if len(message) > LONGEST_REACTION_CHARS:
            return None
        text = _plain(message)
        if self.correction.match(text):
            return "corrected"
        thanks = self.thanks.match(text)
        if thanks is None or len(text) - thanks.end() > LONGEST_AFTER_THANKS_CHARS:
            return None
        return None if self.but.search(text, thanks.end()) else "thanked"

    def asks_again(self, message: str) -> bool:
        """Whether a message says that it asks once more what was asked before."""
        return bool(self.again.match(_plain(message)))


@cache
def load_phrases() -> Phrases:
    """Read and compile the packaged lists, once."""
    file = importlib.resources.files(__package__) / "data" / "phrases.toml"
    lists = tomllib.loads(file.read_text(encoding="utf-8"))
    parts: dict[str, str] = lists["parts"]

    def compiled(patterns: list[str]) -> re.Pattern[str]:
        whole = "|".join(f"(?:{pattern})" for pattern in patterns)
        return re.compile(re.sub(r"<(cannot|helping)>", lambda name: parts[name[1]], whole))

    return Phrases(**{kind: compiled(patterns) for kind, patterns in lists["patterns"].items()})


def _plain(text: str) -> str:
    """Lower the case of the beginning, and write apostrophes and spaces in one way."""
    plain = nfkc(text[:READ_CHARS]).casefold().replace("\u2019", "'")
    return " ".join(plain.split())
