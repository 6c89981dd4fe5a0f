"""The static encoder: one row per word piece, averaged, beside the cheap features.

The table is distilled from all-mpnet-base-v2 by ``benchmarks/encoders``; no neural network runs
here, so numpy suffices and a query costs a few tenths of a millisecond.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from router_models.encoders.features import FEATURE_NAMES, CheapFeatures, cap_text
from router_models.encoders.word_pieces import TOKENIZER_FILE, WordPieces
from router_models.errors import ArtifactRejected
from router_models.types import Float32

FEATURES_FILE: Final = "features.json"
TABLE_FILE: Final = "static/table.safetensors"

_SMALLEST_NORM: Final = 1e-6


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
        for index, ids in enumerate(self.pieces.split(capped)):
            summed = self.scale.take(ids).dot(self.table.take(ids, 0).astype(np.float32))
            norm = max(sqrt(summed.dot(summed)), _SMALLEST_NORM)
            np.divide(summed, norm, out=rows[index, :width])
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
