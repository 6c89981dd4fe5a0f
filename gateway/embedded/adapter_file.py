"""Adapters as llama.cpp reads them: GGUF files made for the GGUF file of their base model.

Form: convert_lora_to_gguf.py of llama.cpp. Needs the package gguf, so no part of serving.
"""

from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np

from router_models.artifacts.adapter import Adapter
from router_models.errors import ArtifactRejected
from router_models.types import Float32

ARCHITECTURES: Final = ("llama", "qwen2", "qwen3")
"""Those whose other weights llama.cpp keeps as transformers has them."""
ROTATED: Final = {"llama": {"q_proj": "attention.head_count", "k_proj": "attention.head_count_kv"}}
"""Modules whose rows are in another order there, and whose heads they are."""


def write_gguf(adapter: Adapter, base: Path, file: Path) -> None:
    """Write `adapter` for the model in `base`; the file is there whole or not at all.

    Raises:
        ArtifactRejected: The adapter belongs to another model.
    """
    reader = gguf.GGUFReader(base)
    architecture = str(_field(reader, "general.architecture"))
    if architecture not in ARCHITECTURES:
        raise ArtifactRejected(
            f"{base.name} is of the architecture {architecture}; adapters can be made for "
            f"{', '.join(ARCHITECTURES)}"
        )
    partial = file.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(adapter.manifest.alpha))
    for name, weights in _tensors(adapter, reader, architecture).items():
        writer.add_tensor(name, np.ascontiguousarray(weights))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(file)


def _tensors(adapter: Adapter, reader: gguf.GGUFReader, architecture: str) -> dict[str, Float32]:
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    n_blocks = int(_field(reader, f"{architecture}.block_count"))
    names = gguf.get_tensor_name_map(kinds[architecture], n_blocks)
    # GGUF counts dimensions from the innermost: (in, out).
    shapes = {tensor.name: tuple(map(int, tensor.shape)) for tensor in reader.tensors}
    tensors: dict[str, Float32] = {}
    for module, (down, up) in adapter.pairs().items():
        name = f"{names.get_name(module)}.weight"
        if shapes.get(name) != (down.shape[1], up.shape[0]):
            raise ArtifactRejected(f"the adapter was made for another model: {module} does not fit")
        heads = ROTATED.get(architecture, {}).get(module.rpartition(".")[2])
        tensors[f"{name}.lora_a"] = down
        tensors[f"{name}.lora_b"] = (
            up if heads is None else _rotated(up, int(_field(reader, f"{architecture}.{heads}")))
        )
    return tensors


def _rotated(weights: Float32, n_heads: int) -> Float32:
    """Put the two halves of each head's rows in turns, as llama.cpp's rotary embedding wants."""
    n_rows, n_columns = weights.shape
    halves = weights.reshape(n_heads, 2, n_rows // n_heads // 2, n_columns)
    return halves.swapaxes(1, 2).reshape(n_rows, n_columns)


def _field(reader: gguf.GGUFReader, name: str) -> Any:
    field = reader.get_field(name)
    if field is None:
        raise ArtifactRejected(f"the base model's GGUF file lacks the field {name}")
    return field.contents()
