"""Cheap text features: what a glance at a query says about its task and its difficulty.

Learned embeddings blur exactly what separates easy from hard queries: length, numbers, code,
answer options, the shape of the demanded answer. These features cost about 0.03 ms and, beside an
embedding, raise routing quality (``docs/decisions/query-encoders.md``).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

import numpy as np

from router_models.errors import ArtifactRejected
from router_models.types import Float32

HEAD_CHARS: Final = 2_000
TAIL_CHARS: Final = 1_000

CLIP_DEVIATIONS: Final = 4.0
"""A feature that training never saw may not dominate a distance."""

# `[0-9]+` would take twice as long: only a first character that stands alone is searched for.
_NUMBER: Final = re.compile(r"[0-9][0-9]*(?:\.[0-9]+)?")
_NUMBER_CHARS: Final = 10
_OPTION: Final = re.compile(r"\n[ \t>*-]*\(?([A-J1-9])[.):] ?(?=\S)")

_BYTE_CLASSES: Final[tuple[tuple[str, bytes], ...]] = (
    ("lower", bytes(range(0x61, 0x7B))),
    ("upper", bytes(range(0x41, 0x5B))),
    ("digit", b"0123456789"),
    ("space", b" \t"),
    ("newline", b"\n"),
    ("period", b"."),
    ("comma", b","),
    ("question_mark", b"?"),
    ("exclamation_mark", b"!"),
    ("colon", b":"),
    ("semicolon", b";"),
    ("quote", b"\"'"),
    ("backtick", b"`"),
    ("parenthesis", b"()"),
    ("square_bracket", b"[]"),
    ("brace", b"{}"),
    ("operator", b"+-*/^"),
    ("comparison", b"=<>"),
    ("backslash", b"\\"),
    ("dollar", b"$"),
    ("percent", b"%"),
    ("underscore", b"_"),
    ("pipe", b"|"),
    ("hash", b"#"),
    ("accented_latin", bytes(range(0xC3, 0xCA))),
    ("greek_or_cyrillic", bytes(range(0xCE, 0xD4))),
    ("hebrew_or_arabic", bytes(range(0xD6, 0xDC))),
    ("indic_or_thai", b"\xe0"),
    ("symbol", b"\xe2\xf0"),
    ("kana_or_cjk", bytes(range(0xE3, 0xEA))),
    ("hangul", bytes(range(0xEA, 0xEE))),
)
"""Single bytes of UTF-8: ASCII characters, and lead bytes that betray a script."""

_MARK_CUES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("code_fence", ("```", "[python]", "<code>")),
    ("code", ("def ", "import ", "return ", "self.", "print(", "();", "=> ", "#include", "</")),
    ("indent", ("\n    ", "\n\t")),
    ("latex", ("\\frac", "\\sqrt", "\\(", "\\[", "\\left", "\\boxed", "^{", "_{")),
    ("list", ("\n- ", "\n* ", "\n1.", "\n2.", "\n• ")),
    ("markdown", ("\n#", "**", "| ", "http")),
    ("blank_line", ("\n\n",)),
    ("structured_answer", ("json", "xml", "yaml", "csv", "schema", '":')),
    ("answer_only", ("only the", "final answer", "answer with", "respond with", "reply only")),
    ("step_by_step", ("step by step", "step-by-step", "explain your", "reasoning")),
    ("which_of", ("which of the following", "which one of", "all of the above")),
    ("true_or_false", ("true or false", "yes or no", "is it possible", "is it true")),
    ("rewrite", ("summar", "translat", "rewrite", "paraphras", "shorten", "classif")),
    ("what_is", ("what is", "what are", "what was", "what's")),
)
"""Substrings of the lower-cased query whose number hints at the task."""

_WORD_CUES: Final[tuple[tuple[str, str], ...]] = (
    ("programming", "python function code program algorithm array returns variable class bug"),
    ("example", "example examples instance following below given"),
    ("input_output", "input output inputs outputs"),
    ("which", "which"),
    ("who_when_where", "who whom whose when where"),
    ("why_how", "why how explain describe discuss compare"),
    ("how_many", "many much far old often"),
    ("negation", "not except never no none without false incorrect least"),
    ("calculate", "calculate compute evaluate simplify determine find solve value"),
    ("prove", "prove proof show theorem lemma suppose let"),
    ("algebra", "equation polynomial integer integers solve matrix modulo prime root real digits"),
    ("geometry", "triangle circle angle area radius perimeter square line point coordinates"),
    ("chance", "probability random expected dice average mean percent percentage ratio"),
    ("money", "cost costs price pay paid dollars buy bought sell sold profit money interest"),
    ("quantity", "total each twice half times per remaining left altogether more fewer"),
    ("time", "hour hours minutes day days week weeks month months year years"),
    ("puzzle", "puzzle clue clues house houses grid left directly knight liar person unique"),
    ("sequence", "sequence string list letter letters word words sort reverse cipher"),
    ("write", "write create generate compose draft story poem essay sentence email"),
    ("science", "energy mass cell cells atom temperature acid species force gas water electron"),
    ("medicine", "patient disease blood clinical treatment symptoms woman man pain infection"),
    ("law", "court contract law plaintiff defendant statute liable property state rights"),
    ("people", "social history government theory psychology war moral culture political"),
    ("passage", "passage according author text paragraph statement statements argument"),
    ("foreign", "que der und les est di para het una por das le il dans mit von"),
)
"""Words of the lower-cased query whose number hints at the task; a word may serve two cues."""

_SHAPE_NAMES: Final = (
    "chars",
    "words",
    "lines",
    "chars_per_word",
    "chars_per_line",
    "numbers",
    "number_longest",
    "number_largest",
    "options",
    "distinct_words",
)

FEATURE_NAMES: Final[tuple[str, ...]] = (
    *_SHAPE_NAMES,
    *(name for name, _ in _BYTE_CLASSES),
    *(name for name, _ in _MARK_CUES),
    *(name for name, _ in _WORD_CUES),
)
_N_FEATURES: Final = len(FEATURE_NAMES)
_SHAPE: Final = slice(0, len(_SHAPE_NAMES))
_SHARES: Final = slice(_SHAPE.stop, _SHAPE.stop + len(_BYTE_CLASSES))
_FIRST_MARK: Final = _SHARES.stop
_FIRST_CUE: Final = _FIRST_MARK + len(_MARK_CUES)
_FLOATS: Final = Struct(f"{_N_FEATURES}f")

_HIGHEST: Final = np.array(CLIP_DEVIATIONS / np.sqrt(_N_FEATURES), np.float32)
_LOWEST: Final = -_HIGHEST


def _marks_by_part() -> dict[str, list[tuple[str, int]]]:
    """File the substrings, each with the index of its feature, under a part that many texts lack.

    That is the first character that is neither letter nor space, or else the first word.
    """
    marks: dict[str, list[tuple[str, int]]] = {}
    for index, (_, substrings) in enumerate(_MARK_CUES, _FIRST_MARK):
        for substring in substrings:
            sign = re.search(r"[^a-z ]", substring)
            part = sign[0] if sign else substring.split()[0]
            marks.setdefault(part, []).append((substring, index))
    return marks


_MARKS: Final = tuple(_marks_by_part().items())
_CUES_OF_WORD: Final[Mapping[bytes, tuple[int, ...]]] = {
    word.encode(): tuple(
        index for index, (_, words) in enumerate(_WORD_CUES, _FIRST_CUE) if word in words.split()
    )
    for _, members in _WORD_CUES
    for word in members.split()
}
_LETTERS_ONLY: Final = bytes(b if 0x61 <= b <= 0x7A else 0x20 for b in range(256))
"""Turns every byte but ``a`` to ``z`` into a space: twice as fast as a regular expression."""


def _class_of_byte() -> bytes:
    classes = bytearray([len(_BYTE_CLASSES)]) * 256
    for index, (_, members) in enumerate(_BYTE_CLASSES):
        for member in members:
            classes[member] = index
    return bytes(classes)


_CLASS_OF_BYTE: Final = _class_of_byte()
"""Turns a byte into the index of its class, or the number of classes if it has none."""


def cap_text(text: str) -> str:
    """Keep the head and the tail of a long text, at most 3,000 characters, as valid Unicode.

    The head (2,000 characters) shows the task; the tail (1,000) usually holds the question that
    follows a pasted document. Uncapped, 100 kB of text cost 55 ms. Half of a surrogate pair, which
    no tokenizer accepts, becomes a question mark. Capping twice changes nothing.
    """
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        text = text[:HEAD_CHARS] + text[-TAIL_CHARS:]
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def raw_features(text: str) -> Float32:
    """Measure a capped text: logarithms of counts, and square roots of shares of its bytes.

    Returns:
        One value per name in `FEATURE_NAMES`, each at least 0 and at most 14.
    """
    encoded = text.encode("utf-8")
    lowered = text.lower()
    words = lowered.encode("utf-8").translate(_LETTERS_ONLY).split()
    counts: list[float] = [0] * _N_FEATURES
    counts[_SHAPE] = _shape(text, len(set(words)))
    for part, substrings in _MARKS:
        if part in lowered:
            for substring, mark in substrings:
                counts[mark] += lowered.count(substring)
    for cues in filter(None, map(_CUES_OF_WORD.get, words)):
        for cue in cues:
            counts[cue] += 1
    # An array made of the list itself would take 0.4 µs more.
    features: Float32 = np.log1p(np.frombuffer(_FLOATS.pack(*counts), np.float32))
    classes = np.frombuffer(encoded.translate(_CLASS_OF_BYTE), np.uint8)
    histogram = np.bincount(classes, minlength=len(_BYTE_CLASSES) + 1)[:-1]
    np.sqrt(histogram / max(len(encoded), 1), out=features[_SHARES])
    return features


def _shape(text: str, n_distinct_words: int) -> tuple[float, ...]:
    n_chars = len(text)
    n_words = len(text.split())
    n_lines = text.count("\n") + 1
    numbers = _NUMBER.findall(text)
    longest = max(map(len, numbers), default=0)
    if longest > _NUMBER_CHARS:
        numbers = [number[:_NUMBER_CHARS] for number in numbers]
    return (
        n_chars,
        n_words,
        n_lines,
        n_chars / max(n_words, 1),
        n_chars / n_lines,
        len(numbers),
        longest,
        min(max(map(float, numbers), default=0.0), 1e6),
        len(set(_OPTION.findall("\n" + text))),
        n_distinct_words,
    )


@dataclass(frozen=True, slots=True)
class CheapFeatures:
    """Standardised cheap features whose typical norm is that of an embedding, 1.

    Attributes:
        mean: Of `raw_features` over the texts the encoder was built with; shape ``(n_features,)``.
        deviation: Their standard deviation; same shape, positive.
    """

    mean: Float32
    deviation: Float32
    _factor: Float32 = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape = (len(FEATURE_NAMES),)
        if self.mean.shape != shape or self.deviation.shape != shape:
            raise ArtifactRejected(
                f"the encoder's feature constants have shape {self.mean.shape} and "
                f"{self.deviation.shape}, this code computes {shape[0]} features; "
                "reinstall waypost, or rebuild the encoders"
            )
        if not np.all(self.deviation > 0):
            raise ArtifactRejected("the encoder's feature deviations must all be positive")
        norm = np.float32(np.sqrt(_N_FEATURES))
        object.__setattr__(self, "_factor", 1 / (self.deviation * norm))

    def compute(self, texts: Sequence[str]) -> Float32:
        """Describe capped `texts`; shape ``(len(texts), len(FEATURE_NAMES))``."""
        rows = np.empty((len(texts), _N_FEATURES), np.float32)
        for index, text in enumerate(texts):
            row = raw_features(text)
            row -= self.mean
            row *= self._factor
            np.maximum(row, _LOWEST, out=row)
            np.minimum(row, _HIGHEST, out=rows[index])
        return rows
