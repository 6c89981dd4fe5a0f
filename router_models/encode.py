"""The static encoder: one row per word piece, averaged, beside the cheap features.

The table is distilled from all-mpnet-base-v2 by ``benchmarks/encoders``; no neural network runs
here, so numpy and a tokenizer suffice and a query costs a few tenths of a millisecond.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from tokenizers import Tokenizer

from router_models.errors import ArtifactRejected
from router_models.features import FEATURE_NAMES, CheapFeatures, cap_text
from router_models.types import Float32

HEAD_TOKENS: Final = 96
TAIL_TOKENS: Final = 32

TOKENIZER_FILE: Final = "tokenizer.json"
FEATURES_FILE: Final = "features.json"
TABLE_FILE: Final = "static/table.safetensors"

_CHARS_PER_TOKEN: Final = 8
_SMALLEST_NORM: Final = 1e-6
_WORDS: Final = re.compile(r"[a-z0-9]+|[!-/:-@\[-`{-~]")
_UNUSUAL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\[(?:CLS|SEP|MASK|PAD|UNK)\]")
"""Control characters, and names of special pieces, which the tokenizer finds in plain text."""
_KNOWN_WORDS: Final = 16_384
_KNOWN_WORD_CHARS: Final = 24


class WordPieces:
    """Splits text into the ids of its word pieces, at most 128: the first 96 and the last 32.

    Reads at most 8 characters per kept token, since tokenising is most of the cost of a query;
    English has 4 to 5.
    """

    __slots__ = ("_begin", "_end", "_known", "_tokenizer", "vocabulary")

    def __init__(self, tokenizer_json: bytes) -> None:
        try:
            tokenizer = Tokenizer.from_str(tokenizer_json.decode("utf-8"))
        except Exception as error:  # tokenizers raises a bare Exception
            raise ArtifactRejected(f"{TOKENIZER_FILE} is not a tokenizer: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        vocabulary = tokenizer.get_vocab()
        self.vocabulary = len(vocabulary)
        try:
            self._begin, self._end = vocabulary["[CLS]"], vocabulary["[SEP]"]
        except KeyError as error:
            raise ArtifactRejected(f"{TOKENIZER_FILE} lacks the word piece {error}") from error

    def split(self, texts: Sequence[str], *, mark_ends: bool = False) -> list[list[int]]:
        """Return the ids of each capped text; `mark_ends` puts ``[CLS]`` and ``[SEP]`` around."""
        kept = [_head_and_tail(self._pieces(_ends(text))) for text in texts]
        return [[self._begin, *ids, self._end] for ids in kept] if mark_ends else kept

    def _pieces(self, text: str) -> list[int]:
        """Split one text; an ASCII text word by word, from memory, at a sixth of the time.

        Of an ASCII text the tokenizer's own first step leaves runs of letters and digits, in lower
        case, and single marks, and each is split by itself: the ids are the same.
        """
        if not text.isascii() or _UNUSUAL.search(text):
            return self._encode(text)
        ids: list[int] = []
        for word in _WORDS.findall(text.lower()):
            pieces = self._known.get(word)
            if pieces is None:
                pieces = self._encode(word)
                if len(self._known) < _KNOWN_WORDS and len(word) <= _KNOWN_WORD_CHARS:
                    self._known[word] = pieces
            ids.extend(pieces)
        return ids

    def _encode(self, text: str) -> list[int]:
        # `encode` would hold the GIL while it works; `encode_batch` releases it.
        ids: list[int] = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids


def _ends(text: str) -> str:
    head, tail = HEAD_TOKENS * _CHARS_PER_TOKEN, TAIL_TOKENS * _CHARS_PER_TOKEN
    if len(text) <= head + tail:
        return text
    return f"{text[:head]} {text[-tail:]}"


def _head_and_tail(ids: list[int]) -> list[int]:
    if len(ids) <= HEAD_TOKENS + TAIL_TOKENS:
        return ids
    return ids[:HEAD_TOKENS] + ids[-TAIL_TOKENS:]


@dataclass(slots=True, eq=False)
class StaticEncoder:
    """Mean of distilled word-piece vectors, then the cheap features.

    Attributes:
        table: One row per word piece; shape ``(vocabulary, 256)``.
        scale: Turns a row into its vector, frequency weight included; shape ``(vocabulary,)``.
        sha256: Of all data files, see `digest`.
    """

    pieces: WordPieces
    table: NDArray[np.int8]
    scale: Float32
    features: CheapFeatures
    sha256: str
    id: str = "static-cheap-1"
    dimension: int = field(init=False)

    def __post_init__(self) -> None:
        self.dimension = self.table.shape[1] + len(FEATURE_NAMES)

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Build from the contents of the files named in `STATIC_FILES`.

        Raises:
            ArtifactRejected: A file is missing, corrupt, or does not fit this code.
        """
        files = require_files(files, STATIC_FILES)
        try:
            arrays = load_safetensors(files[TABLE_FILE])
            table, scale = arrays["table"], arrays["scale"]
        except (SafetensorError, KeyError) as error:
            raise ArtifactRejected(f"{TABLE_FILE} is not a word-piece table: {error}") from error
        if table.dtype != np.int8 or table.ndim != 2 or scale.shape != table.shape[:1]:
            raise ArtifactRejected(
                f"{TABLE_FILE} holds {table.dtype} {table.shape} with scales {scale.shape}; "
                "expected int8 (vocabulary, width) with one scale per row"
            )
        pieces = WordPieces(files[TOKENIZER_FILE])
        if len(table) != pieces.vocabulary:
            raise ArtifactRejected(
                f"{TABLE_FILE} has {len(table)} rows for {pieces.vocabulary} word pieces"
            )
        return cls(
            pieces=pieces,
            table=table,
            scale=scale.astype(np.float32),
            features=parse_features(files[FEATURES_FILE]),
            sha256=digest(files),
        )

    def encode(self, texts: Sequence[str]) -> Float32:
        """Embed `texts`, each capped and on its own; shape ``(len(texts), dimension)``."""
        capped = [cap_text(text) for text in texts]
        rows = np.empty((len(capped), self.dimension), np.float32)
        width = self.table.shape[1]
        for row, ids in zip(rows, self.pieces.split(capped), strict=True):
            summed = self.scale[ids] @ self.table[ids].astype(np.float32)
            row[:width] = summed / max(float(np.linalg.norm(summed)), _SMALLEST_NORM)
        rows[:, width:] = self.features.compute(capped)
        return rows


STATIC_FILES: Final = (TOKENIZER_FILE, FEATURES_FILE, TABLE_FILE)


def digest(files: Mapping[str, bytes]) -> str:
    """Hash an encoder's data files, names included, whatever their order; hexadecimal SHA-256."""
    lines = [f"{name} {hashlib.sha256(files[name]).hexdigest()}\n" for name in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def require_files(files: Mapping[str, bytes], names: Sequence[str]) -> dict[str, bytes]:
    """Pick the files an encoder is made of.

    Raises:
        ArtifactRejected: One is missing.
    """
    missing = [name for name in names if name not in files]
    if missing:
        raise ArtifactRejected(f"the encoder lacks {', '.join(missing)}; reinstall waypost")
    return {name: files[name] for name in names}


def parse_features(document: bytes) -> CheapFeatures:
    """Read the constants that standardise the cheap features.

    Raises:
        ArtifactRejected: Not such a document, or of other features than this code computes.
    """
    try:
        constants = json.loads(document)
        names = tuple(constants["names"])
        mean = np.array(constants["mean"], np.float32)
        deviation = np.array(constants["deviation"], np.float32)
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactRejected(f"{FEATURES_FILE} is not readable: {error!r}") from error
    if names != FEATURE_NAMES:
        raise ArtifactRejected(
            f"{FEATURES_FILE} describes other features than this code computes; "
            "reinstall waypost, or rebuild the encoders"
        )
    return CheapFeatures(mean, deviation)
