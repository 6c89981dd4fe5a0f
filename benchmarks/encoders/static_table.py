"""Distil all-mpnet-base-v2 into one small vector per word piece."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from tokenizers import Tokenizer
from transformers import MPNetModel

from router_models.types import Float32

WIDTH = 256
SMOOTHING = 1e-2
"""`a` of smooth inverse frequency, Arora et al. 2017: a piece weighs a / (a + its frequency).

Sentence similarity wants 1e-3; a router also reads the task off the frequent words.
"""

MPNET_NAMES = {"[PAD]": "<pad>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}
"""The two tokenizers hold the same word pieces; only the special ones have other names."""

BATCH = 512


def embed_vocabulary(mpnet: Path, pieces: list[str]) -> Float32:
    """Run each word piece alone through the model; shape ``(len(pieces), 768)``."""
    vocabulary = Tokenizer.from_file(str(mpnet / "tokenizer.json")).get_vocab()
    ids = [vocabulary[MPNET_NAMES.get(piece, piece)] for piece in pieces]
    begin, end = vocabulary["<s>"], vocabulary["</s>"]
    inputs = torch.tensor([[begin, piece, end] for piece in ids])
    model = MPNetModel.from_pretrained(mpnet, add_pooling_layer=False).eval()
    with torch.inference_mode():
        batches = [
            model(input_ids=batch).last_hidden_state.mean(dim=1).numpy()
            for batch in inputs.split(BATCH)
        ]
    return np.concatenate(batches).astype(np.float32)


def build_table(vectors: Float32, counts: NDArray[np.int64]) -> bytes:
    """Shrink to `WIDTH` principal components, weigh by rarity, round to int8; as safetensors."""
    frequency = (counts + 1) / (counts + 1).sum()
    projected = _project(vectors.astype(np.float64), np.sqrt(frequency))
    largest = np.abs(projected).max(axis=1, keepdims=True)
    table = np.rint(projected / largest * 127).astype(np.int8)
    weight = SMOOTHING / (SMOOTHING + frequency)
    scale = (largest[:, 0] / 127 * weight).astype(np.float32)
    return save({"table": table, "scale": scale})


def _project(vectors: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = vectors - np.average(vectors, axis=0, weights=weight)
    covariance = (centred * weight[:, None]).T @ centred / weight.sum()
    _, axes = np.linalg.eigh(covariance)
    leading = axes[:, ::-1][:, :WIDTH]
    # An eigenvector's sign is arbitrary: fix it, so that every build gives the same table.
    signs = np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(leading.shape[1])])
    projected: NDArray[np.float64] = centred @ (leading * signs)
    return projected
