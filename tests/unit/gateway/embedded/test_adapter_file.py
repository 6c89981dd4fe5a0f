from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from gateway.embedded.adapter_file import write_gguf
from router_models.artifacts.adapter import load
from router_models.errors import ArtifactRejected
from tests.fakes.adapters import adapter_weights, sealed_adapter

WIDTH = 8
N_HEADS = 2
MODULES = ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj")


def base_file(
    folder: Path, architecture: str = "llama", width: int = WIDTH, *, has_heads: bool = True
) -> Path:
    file = folder / "base.gguf"
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_block_count(1)
    if has_heads:
        writer.add_head_count(N_HEADS)
        writer.add_head_count_kv(N_HEADS)
    for name in ("attn_q", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((width, width), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def adapter(modules=MODULES):
    return load(sealed_adapter(weights=adapter_weights(modules, width=WIDTH)))


def written(tmp_path: Path, architecture: str = "llama") -> gguf.GGUFReader:
    file = tmp_path / "adapter.gguf"
    write_gguf(adapter(), base_file(tmp_path, architecture), file)
    return gguf.GGUFReader(file)


def content(reader: gguf.GGUFReader, name: str) -> Any:
    field = reader.get_field(name)
    assert field is not None
    return field.contents()


def test_writes_a_and_b_under_the_names_of_the_base(tmp_path):
    reader = written(tmp_path)

    down, up = adapter().pairs()["model.layers.0.mlp.down_proj"]
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    assert set(tensors) == {
        f"blk.0.{name}.weight.lora_{side}" for name in ("attn_q", "ffn_down") for side in "ab"
    }
    assert np.array_equal(tensors["blk.0.ffn_down.weight.lora_a"], down)
    assert np.array_equal(tensors["blk.0.ffn_down.weight.lora_b"], up)
    assert content(reader, "adapter.lora.alpha") == 4.0
    assert content(reader, "adapter.type") == "lora"


def test_turns_the_rows_of_each_head_as_llama_cpp_has_them(tmp_path):
    _, up = adapter().pairs()["model.layers.0.self_attn.q_proj"]
    tensors = {tensor.name: tensor.data for tensor in written(tmp_path).tensors}

    # Of each head's four rows, the halves (0, 1) and (2, 3) take turns.
    order = [0, 2, 1, 3, 4, 6, 5, 7]
    assert np.array_equal(tensors["blk.0.attn_q.weight.lora_b"], up[order])


def test_leaves_the_rows_of_other_architectures(tmp_path):
    _, up = adapter().pairs()["model.layers.0.self_attn.q_proj"]
    tensors = {tensor.name: tensor.data for tensor in written(tmp_path, "qwen2").tensors}

    assert np.array_equal(tensors["blk.0.attn_q.weight.lora_b"], up)


@pytest.mark.parametrize(
    ("modules", "base", "message"),
    [
        (MODULES, {"architecture": "mamba"}, "architecture mamba"),
        (MODULES, {"width": 16}, "another model: .*down_proj does not fit"),
        (("model.layers.9.mlp.down_proj",), {}, "layers.9.* does not fit"),
        (MODULES, {"has_heads": False}, "lacks the field llama.attention.head_count"),
    ],
    ids=["unknown architecture", "other widths", "more layers", "unknown heads"],
)
def test_writes_nothing_for_another_model(tmp_path, modules, base, message):
    with pytest.raises(ArtifactRejected, match=message):
        write_gguf(adapter(modules), base_file(tmp_path, **base), tmp_path / "adapter.gguf")
    assert not (tmp_path / "adapter.gguf").exists()
