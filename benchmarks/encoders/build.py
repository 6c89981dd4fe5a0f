"""Build the query encoders that ship in ``router_models/encoders``; see README.md beside this.

Usage: python -m benchmarks.encoders.build --workdir /tmp/encoders [--texts FOLDER]
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from transformers import BertModel

from benchmarks.encoders.minilm_graph import LAYERS, build_graph
from benchmarks.encoders.sources import fetch_minilm, fetch_mpnet
from benchmarks.encoders.static_table import build_table, embed_vocabulary
from benchmarks.encoders.statistics import TextStatistics, measure_texts
from router_models.encoders.encode import FEATURES_FILE, STATIC_FILES, TABLE_FILE, StaticEncoder
from router_models.encoders.features import FEATURE_NAMES
from router_models.encoders.minilm import MINILM_FILES, MODEL_FILE, MiniLMEncoder
from router_models.encoders.word_pieces import TOKENIZER_FILE, WordPieces
from router_models.types import Encoder

HERE = Path(__file__).parent
STATISTICS = HERE / "statistics.npz"
SHIPPED = HERE.parents[1] / "router_models" / "encoders"
MANIFEST_FILE = "manifest.json"
LEAST_AGREEMENT = 0.99
PROBES = ("what is 7 * 8?", "Prove that the square root of two is irrational.", "x " * 400)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True, help="downloads, 1.5 GB")
    parser.add_argument("--texts", type=Path, help="parquet files to measure statistics.npz anew")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(mode=True)

    minilm = fetch_minilm(arguments.workdir)
    tokenizer = _bare_tokenizer(minilm)
    pieces = _piece_names(tokenizer)
    if arguments.texts is not None:
        measure_texts(arguments.texts, WordPieces(tokenizer), len(pieces)).write(STATISTICS)
    statistics = TextStatistics.read(STATISTICS)
    vectors = embed_vocabulary(fetch_mpnet(arguments.workdir), pieces)
    files = {
        TOKENIZER_FILE: tokenizer,
        FEATURES_FILE: _feature_constants(statistics),
        TABLE_FILE: build_table(vectors, statistics.counts),
        MODEL_FILE: build_graph(minilm),
    }
    _check_agreement(minilm, tokenizer, files[MODEL_FILE])
    _write(arguments.out, files)


def _bare_tokenizer(minilm: Path) -> bytes:
    document = json.loads((minilm / "tokenizer.json").read_text(encoding="utf-8"))
    document["truncation"] = document["padding"] = None
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _piece_names(tokenizer: bytes) -> list[str]:
    vocabulary: dict[str, int] = json.loads(tokenizer)["model"]["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _feature_constants(statistics: TextStatistics) -> bytes:
    document = {
        "names": FEATURE_NAMES,
        "mean": [round(float(value), 5) for value in statistics.mean],
        "deviation": [round(float(value), 5) for value in statistics.deviation],
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def _check_agreement(minilm: Path, tokenizer: bytes, model: bytes) -> None:
    reference = BertModel.from_pretrained(minilm, num_hidden_layers=LAYERS).eval()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for text, ids in zip(PROBES, WordPieces(tokenizer).split(PROBES, mark_ends=True), strict=True):
        with torch.inference_mode():
            expected = reference(input_ids=torch.tensor(ids[np.newaxis])).last_hidden_state.mean(
                dim=1
            )[0]
        (found,) = session.run(["embedding"], {"ids": ids})
        cosine = float(found @ (expected / expected.norm()).numpy())
        print(f"int8 against float32: cosine {cosine:.4f} for {text[:30]!r}")
        if cosine < LEAST_AGREEMENT:
            raise SystemExit("the int8 graph does not compute what MiniLM computes")


def _write(folder: Path, files: dict[str, bytes]) -> None:
    encoders: dict[str, tuple[Encoder, Sequence[str]]] = {
        "static": (StaticEncoder.from_files(files), STATIC_FILES),
        "minilm": (MiniLMEncoder.from_files(files), MINILM_FILES),
    }
    manifest = {
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "encoders": {
            name: {
                "id": encoder.id,
                "dimension": encoder.dimension,
                "sha256": encoder.sha256,
                "files": names,
            }
            for name, (encoder, names) in encoders.items()
        },
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        print(f"{len(content):>10,} bytes  {path}")
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
