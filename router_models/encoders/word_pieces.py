"""Splits text into word pieces as BERT does: words in lower case without accents, then pieces.

Devlin et al. 2018; https://github.com/google-research/bert/blob/master/tokenization.py. In Python,
with words remembered, it is faster than the ``tokenizers`` library and takes 12 MB less. The ids
are the library's, but for some 500 characters that Unicode has added or changed since its tables.
"""

import json
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router_models.errors import ArtifactRejected

HEAD_TOKENS: Final = 96
TAIL_TOKENS: Final = 32

TOKENIZER_FILE: Final = "tokenizer.json"

_CHARS_PER_TOKEN: Final = 8
_WORDS: Final = re.compile(r"[a-z0-9]+|[!-/:-@\[-`{-~]")
_SPECIAL: Final = re.compile(r"(\[(?:CLS|SEP|MASK|PAD|UNK)\])")
"""Names of special pieces, which are found in plain text too."""
_UNUSUAL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|" + _SPECIAL.pattern)
_DROPPED: Final = frozenset({"Cc", "Cf", "Co"})
_CONTINUED: Final = "##"
_MAX_WORD_CHARS: Final = 100
_HAN: Final = (
    range(0x3400, 0x4DC0),
    range(0x4E00, 0xA000),
    range(0xF900, 0xFB00),
    range(0x20000, 0x2A6E0),
    range(0x2A700, 0x2B740),
    range(0x2B740, 0x2B820),
    range(0x2B920, 0x2CEB0),  # not 0x2B820: the library's slip, which routers were trained with
    range(0x2F800, 0x2FA20),
)
_ID_BYTES: Final = 8
_REMEMBERED: Final = 8_192
_REMEMBERED_CHARS: Final = 24
_KNOWN_CHARACTERS: Final = 4_096


class WordPieces:
    """Splits text into the ids of its word pieces, at most 128: the first 96 and the last 32.

    Reads at most 8 characters per kept token, since splitting is most of the cost of a query;
    English has 4 to 5.
    """

    __slots__ = ("_begin", "_characters", "_end", "_ids", "_longest", "_runs", "_unknown", "_words")

    def __init__(self, tokenizer_json: bytes) -> None:
        self._ids = _read_vocabulary(tokenizer_json)
        try:
            self._begin, self._end = _pack(self._ids["[CLS]"]), _pack(self._ids["[SEP]"])
            self._unknown = _pack(self._ids["[UNK]"])
        except KeyError as error:
            raise ArtifactRejected(f"{TOKENIZER_FILE} lacks the word piece {error}") from error
        self._longest = max(map(len, self._ids))
        self._words = _Memory(self._split_word)
        self._runs = _Memory(self._split_run)
        self._characters = _Characters()

    @property
    def vocabulary(self) -> int:
        """How many word pieces there are."""
        return len(self._ids)

    def split(self, texts: Sequence[str], *, mark_ends: bool = False) -> list[NDArray[np.int64]]:
        """Return the ids of each capped text; `mark_ends` puts ``[CLS]`` and ``[SEP]`` around."""
        kept = [_head_and_tail(self._split(_ends(text))) for text in texts]
        if mark_ends:
            kept = [self._begin + ids + self._end for ids in kept]
        return [np.frombuffer(ids, np.int64) for ids in kept]

    def _split(self, text: str) -> bytes:
        """Split a text from memory: a plain one at its spaces, any other into its words."""
        if _is_plain(text):
            return b"".join(map(self._runs.__getitem__, text.lower().split()))
        return b"".join(map(self._words.__getitem__, self._unusual_words(text)))

    def _split_run(self, run: str) -> bytes:
        """Split ASCII characters in lower case, none of them a space."""
        return b"".join(map(self._words.__getitem__, _WORDS.findall(run)))

    def _unusual_words(self, text: str) -> Iterator[str]:
        """Yield the words of a text of any characters; of an ASCII text those of `_WORDS`."""
        for number, part in enumerate(_SPECIAL.split(text)):
            if number % 2:
                yield part
            else:
                yield from part.translate(self._characters).split()

    def _split_word(self, word: str) -> bytes:
        """Take the longest piece that `word` begins with, then that of the rest."""
        if len(word) > _MAX_WORD_CHARS:
            return self._unknown
        ids: list[int] = []
        start, mark = 0, ""
        while start < len(word):
            for end in range(min(len(word), start + self._longest), start, -1):
                piece = self._ids.get(mark + word[start:end])
                if piece is not None:
                    break
            else:
                return self._unknown
            ids.append(piece)
            start, mark = end, _CONTINUED
        return _pack(*ids)


class _Memory(dict[str, bytes]):
    """The ids of strings, packed, which `split` works out when they are first met."""

    __slots__ = ("_split",)

    def __init__(self, split: Callable[[str], bytes]) -> None:
        super().__init__()
        self._split = split

    def __missing__(self, string: str) -> bytes:
        ids = self._split(string)
        if len(self) < _REMEMBERED and len(string) <= _REMEMBERED_CHARS:
            self[string] = ids
        return ids


class _Characters(dict[int, str]):
    """What becomes of each character of a text, for `str.translate`; worked out when first met."""

    def __missing__(self, code: int) -> str:
        made = _normalise(chr(code))
        if len(self) < _KNOWN_CHARACTERS:
            self[code] = made
        return made


def _normalise(character: str) -> str:
    """Return letters in lower case without accents, marks between spaces, a space or nothing."""
    category = unicodedata.category(character)
    if character in "\t\n\r" or (character.isspace() and category != "Cc"):
        return " "
    if category in _DROPPED or character == "\ufffd":
        return ""
    bare = [
        f" {part} " if _is_mark(part) else part.lower()
        for part in unicodedata.normalize("NFD", character)
        if unicodedata.category(part) != "Mn"
    ]
    is_han = any(ord(character) in block for block in _HAN)
    return f" {''.join(bare)} " if is_han else "".join(bare)


def _is_mark(character: str) -> bool:
    if character.isascii():
        return not character.isalnum()
    return unicodedata.category(character).startswith("P")


def _read_vocabulary(tokenizer_json: bytes) -> dict[str, int]:
    try:
        model = json.loads(tokenizer_json)["model"]
        kind, vocabulary = model["type"], model["vocab"]
        is_readable = kind == "WordPiece" and set(map(type, vocabulary.values())) <= {int}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactRejected(f"{TOKENIZER_FILE} is not a tokenizer: {error!r}") from error
    if not is_readable:
        raise ArtifactRejected(f"{TOKENIZER_FILE} is not a tokenizer of word pieces")
    return dict(vocabulary)


def _is_plain(text: str) -> bool:
    if not text.isascii():
        return False
    # The search takes four times as long, and most texts do without.
    return (text.isprintable() and "[" not in text) or not _UNUSUAL.search(text)


def _pack(*ids: int) -> bytes:
    return array("q", ids).tobytes()


def _ends(text: str) -> str:
    head, tail = HEAD_TOKENS * _CHARS_PER_TOKEN, TAIL_TOKENS * _CHARS_PER_TOKEN
    if len(text) <= head + tail:
        return text
    return f"{text[:head]} {text[-tail:]}"


def _head_and_tail(ids: bytes) -> bytes:
    if len(ids) <= (HEAD_TOKENS + TAIL_TOKENS) * _ID_BYTES:
        return ids
    return ids[: HEAD_TOKENS * _ID_BYTES] + ids[-TAIL_TOKENS * _ID_BYTES :]
