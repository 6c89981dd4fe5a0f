"""What the encoders need to know about ordinary queries: word-piece counts and feature scales.

Measured once over the texts of public evaluation sets and kept as ``statistics.npz``, so that a
build needs no texts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from router_models.encoders.features import cap_text, raw_features
from router_models.encoders.word_pieces import WordPieces
from router_models.types import Float32

SMALLEST_DEVIATION = 0.02
"""A mark that training texts hardly ever show is rare, not infinitely surprising."""


@dataclass(frozen=True, slots=True)
class TextStatistics:
    counts: NDArray[np.int64]
    mean: Float32
    deviation: Float32

    @classmethod
    def read(cls, path: Path) -> Self:
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["counts"], arrays["mean"], arrays["deviation"])

    def write(self, path: Path) -> None:
        np.savez_compressed(
            path, counts=self.counts, mean=self.mean, deviation=self.deviation, allow_pickle=False
        )


def measure_texts(folder: Path, pieces: WordPieces, vocabulary: int) -> TextStatistics:
    """Count word pieces over all training texts below `folder`; weigh each file's features alike.

    Reads every parquet file with a column ``text`` or ``question``; where there is a column
    ``split``, only its ``train`` rows.
    """
    counts = np.zeros(vocabulary, np.int64)
    means: list[Float32] = []
    squares: list[Float32] = []
    for texts in _training_texts(folder):
        for ids in pieces.split(texts):
            np.add.at(counts, ids, 1)
        rows = np.stack([raw_features(text) for text in texts])
        means.append(rows.mean(axis=0, dtype=np.float64))
        squares.append((rows.astype(np.float64) ** 2).mean(axis=0))
    if not means:
        raise SystemExit(f"no parquet file with a column text or question in {folder}")
    mean = np.mean(means, axis=0)
    variance = np.maximum(np.mean(squares, axis=0) - mean**2, 0)
    deviation = np.maximum(np.sqrt(variance), SMALLEST_DEVIATION)
    return TextStatistics(counts, mean.astype(np.float32), deviation.astype(np.float32))


def _training_texts(folder: Path) -> Iterator[list[str]]:
    for path in sorted(folder.glob("*.parquet")):
        names = pq.read_schema(path).names
        column = next((name for name in ("text", "question") if name in names), None)
        if column is None:
            continue
        table = pq.read_table(path, columns=[column, *({"split"} & set(names))])
        texts = table[column].to_pylist()
        splits = table["split"].to_pylist() if "split" in names else ["train"] * len(texts)
        yield [
            cap_text(text) for text, split in zip(texts, splits, strict=True) if split == "train"
        ]
