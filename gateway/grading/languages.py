"""Tells the language of a text by its script, and of European languages by their commonest words.

That is cheap, and unsure for short texts: nothing is said unless the signs are many. The words are
in `data/languages.toml`.
"""

import importlib.resources
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Final

READ_CHARS: Final = 600
MIN_LETTERS: Final = 24
SCRIPT_SHARE: Final = 0.8
WORD_SHARE: Final = 0.2
"""Of a text's words that are among the commonest of its language; in prose 0.3 to 0.5 are."""
MIN_COMMON: Final = 4
"""Different ones of them."""
KANA_SHARE: Final = 0.1
"""Of Japanese writing at least; Chinese has none."""
LEAD: Final = 2.0
"""Times as many of them as of any other language."""

LATIN: Final = "Latin"
"""A text in that script whose language is not sure."""

_CODE: Final = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
_SCRIPTS: Final = {
    "CJK": "Han",
    "HIRAGANA": "Kana",
    "KATAKANA": "Kana",
    "HANGUL": "Hangul",
    "LATIN": "Latin",
    "CYRILLIC": "Cyrillic",
    "ARABIC": "Arabic",
    "HEBREW": "Hebrew",
    "GREEK": "Greek",
    "DEVANAGARI": "Devanagari",
    "THAI": "Thai",
    "BENGALI": "Bengali",
    "TAMIL": "Tamil",
    "GEORGIAN": "Georgian",
    "ARMENIAN": "Armenian",
}
_OF_SCRIPT: Final = frozenset({*_SCRIPTS.values(), "Chinese", "Japanese"} - {LATIN})


@dataclass(frozen=True, slots=True)
class Languages:
    """What languages of the Latin script, and wishes for another language, are known by.

    Attributes:
        common_words: The languages that a word is among the commonest of.
        names: Finds words that may ask for another language.
    """

    common_words: Mapping[str, tuple[str, ...]]
    names: re.Pattern[str]

    def language_of(self, text: str) -> str | None:
        """Return the language that nearly all of a text is in, or else its script."""
        prose = text[:READ_CHARS]
        if "`" in prose or "://" in prose:
            prose = _CODE.sub(" ", prose)
        if prose.isascii():
            return self._by_words(prose) if len(prose) >= MIN_LETTERS else None
        letters = [char for char in prose if char.isalpha()]
        is_eastern = sum(char >= "\u2e80" for char in letters) > len(letters) // 2
        if len(letters) < (MIN_LETTERS // 3 if is_eastern else MIN_LETTERS):
            return None
        scripts = Counter(map(_script_of, letters))
        eastern = scripts["Han"] + scripts["Kana"]
        if eastern >= SCRIPT_SHARE * len(letters):
            return "Japanese" if scripts["Kana"] >= KANA_SHARE * eastern else "Chinese"
        script, number = scripts.most_common(1)[0]
        if number < SCRIPT_SHARE * len(letters) or not script:
            return None
        return self._by_words(prose) if script == LATIN else script

    def differ(self, asked: str, answered: str) -> bool:
        """Whether an answer is in another language than its question, as far as can be told."""
        first = self.language_of(asked)
        second = None if first is None else self.language_of(answered)
        if second is None or first == second:
            return False
        if LATIN in (first, second):
            return first in _OF_SCRIPT or second in _OF_SCRIPT
        # Names and headings in Chinese characters alone are Japanese as well.
        return {first, second} != {"Chinese", "Japanese"}

    def are_named_in(self, text: str) -> bool:
        """Whether a text may ask for another language than its own."""
        return self.names.search(text[: 4 * READ_CHARS].casefold()) is not None

    def _by_words(self, text: str) -> str:
        words, known = text.casefold().split(), self.common_words
        common = [word for word in words if word in known]
        if len(common) < WORD_SHARE * len(words):
            return LATIN
        counts = Counter(chain.from_iterable(map(known.__getitem__, common)))
        (language, most), (_, second) = (*counts.most_common(2), ("", 0), ("", 0))[:2]
        is_sure = most >= WORD_SHARE * len(words) and most >= LEAD * second
        of_it = {word for word in common if language in known[word]}
        return language if is_sure and len(of_it) >= MIN_COMMON else LATIN


def load_languages() -> Languages:
    """Read the packaged lists."""
    file = importlib.resources.files(__package__) / "data" / "languages.toml"
    lists = tomllib.loads(file.read_text(encoding="utf-8"))
    words, signs = lists["names"]["words"], lists["names"]["signs"]
    common: dict[str, tuple[str, ...]] = {}
    for language, listed in lists["common_words"].items():
        for word in dict.fromkeys(listed.split()):
            common[word] = (*common.get(word, ()), language)
    return Languages(common, re.compile(rf"\b(?:{'|'.join(words)})\b|{'|'.join(signs)}"))


@lru_cache(8_192)
def _script_of(letter: str) -> str:
    name = unicodedata.name(letter, "")
    return _SCRIPTS.get(name.partition(" ")[0].partition("-")[0], "")
