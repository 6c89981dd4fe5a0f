"""The accurate encoder: MiniLM cut after its second layer, beside the cheap features.

Needs onnxruntime (``pip install 'waypost[accurate]'``), so nothing may import this module
without asking for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
import onnxruntime

from router_models.encoders.encode import FEATURES_FILE, digest, parse_features, require_files
from router_models.encoders.features import FEATURE_NAMES, CheapFeatures, cap_text
from router_models.encoders.word_pieces import TOKENIZER_FILE, WordPieces
from router_models.errors import ArtifactRejected
from router_models.types import Float32

MODEL_FILE: Final = "minilm/model.onnx"
MINILM_FILES: Final = (TOKENIZER_FILE, FEATURES_FILE, MODEL_FILE)


@dataclass(slots=True, eq=False)
class MiniLMEncoder:
    """A text's mean word-piece vector after two transformer layers, then the cheap features.

    Safe to share between threads; releases the GIL while the model runs.

    Attributes:
        model: Takes ``ids`` (n,), gives ``embedding`` (384,).
        sha256: Of all data files, see `router_models.encoders.encode.digest`.
    """

    pieces: WordPieces
    model: onnxruntime.InferenceSession
    features: CheapFeatures
    sha256: str
    id: str = "minilm2-cheap-1"
    dimension: int = field(init=False)

    def __post_init__(self) -> None:
        (output,) = self.model.get_outputs()
        self.dimension = output.shape[0] + len(FEATURE_NAMES)

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Build from the contents of the files named in `MINILM_FILES`.

        Raises:
            ArtifactRejected: A file is missing, corrupt, or does not fit this code.
        """
        files = require_files(files, MINILM_FILES)
        return cls(
            pieces=WordPieces(files[TOKENIZER_FILE]),
            model=_load_model(files[MODEL_FILE]),
            features=parse_features(files[FEATURES_FILE]),
            sha256=digest(files),
        )

    def encode(self, texts: Sequence[str]) -> Float32:
        """Embed `texts`, each capped and on its own; shape ``(len(texts), dimension)``."""
        capped = [cap_text(text) for text in texts]
        rows = np.empty((len(capped), self.dimension), np.float32)
        width = self.dimension - len(FEATURE_NAMES)
        # One text a run: padding would change the int8 scales, and so a text's embedding would
        # depend on its neighbours.
        for row, ids in zip(rows, self.pieces.split(capped, mark_ends=True), strict=True):
            (row[:width],) = self.model.run(["embedding"], {"ids": ids})
        rows[:, width:] = self.features.compute(capped)
        return rows


def _load_model(document: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # Parallel over queries, not within one: threads inside a run would fight over the cores.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            document, sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exceptions share no public base
        raise ArtifactRejected(f"{MODEL_FILE} is not a model this onnxruntime runs") from error
