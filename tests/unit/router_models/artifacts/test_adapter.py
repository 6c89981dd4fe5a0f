import json

import numpy as np
import pytest
from safetensors.numpy import load as load_safetensors

from router_models.artifacts import sealed_file
from router_models.artifacts.adapter import ADAPTER_FILE, load
from router_models.artifacts.artifact import read_manifest
from router_models.errors import ArtifactRejected
from tests.fakes.adapters import BASE, NOW, adapter_weights, sealed_adapter

Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def test_reads_back_the_weights_and_what_they_belong_to():
    weights = adapter_weights(seed=3)
    adapter = load(sealed_adapter(seed=3))
    assert adapter.weights.keys() == weights.keys()
    assert all(np.array_equal(adapter.weights[name], one) for name, one in weights.items())
    manifest = adapter.manifest
    assert (manifest.base_model, manifest.base_sha256) == (BASE.id, BASE.sha256)
    assert (manifest.rank, manifest.alpha, manifest.created_at) == (2, 4, NOW)
    assert manifest.targets == ("down_proj", "q_proj")
    assert manifest.training == {"steps": 3}
    assert manifest.provenance == {"prompts": 8}


def test_names_equal_adapters_alike_and_others_apart():
    assert sealed_adapter() == sealed_adapter()
    assert load(sealed_adapter()).version.startswith("lora-20261123-")
    assert load(sealed_adapter()).version != load(sealed_adapter(seed=1)).version


def test_pairs_a_and_b_of_each_module():
    weights = adapter_weights()
    down, up = load(sealed_adapter()).pairs()["model.layers.0.self_attn.q_proj"]
    assert np.array_equal(down, weights[Q_PROJ])
    assert np.array_equal(up, weights[Q_PROJ.replace("lora_A", "lora_B")])


def test_writes_what_peft_reads():
    files = load(sealed_adapter()).to_peft()
    config = json.loads(files["adapter_config.json"])
    assert config["peft_type"] == "LORA"
    assert config["base_model_name_or_path"] == BASE.id
    assert (config["r"], config["lora_alpha"]) == (2, 4)
    assert config["target_modules"] == [
        "model.layers.0.mlp.down_proj",
        "model.layers.0.self_attn.q_proj",
    ]
    weights = load_safetensors(files["adapter_model.safetensors"])
    assert {name: one.shape for name, one in weights.items()} == {
        name: one.shape for name, one in adapter_weights().items()
    }


def test_refuses_a_changed_byte():
    data = bytearray(sealed_adapter())
    data[-5] ^= 1
    with pytest.raises(ArtifactRejected, match="checksum does not match"):
        load(bytes(data))


def test_is_not_taken_for_a_router():
    with pytest.raises(ArtifactRejected, match="without a router's manifest"):
        read_manifest(sealed_adapter())


def changed(name: str, array: np.ndarray | None) -> dict[str, np.ndarray]:
    weights = adapter_weights()
    del weights[Q_PROJ]
    return weights if array is None else {**weights, name: array}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "needs A and B"),
        (changed(Q_PROJ, None), "q_proj lacks one"),
        (changed("q_proj.lora_A.weight", np.ones((2, 6), np.float32)), "no float32 matrix"),
        (changed(Q_PROJ, np.ones((2, 6))), "no float32 matrix"),
        (changed(Q_PROJ, np.ones(12, np.float32)), "no float32 matrix"),
        (changed(Q_PROJ, np.ones((3, 6), np.float32)), "not all of rank"),
        (changed(Q_PROJ, np.full((2, 6), np.nan, np.float32)), "not finite"),
    ],
)
def test_seals_no_weights_that_are_no_adapter(weights, message):
    with pytest.raises(ArtifactRejected, match=message):
        sealed_adapter(weights=weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": type(BASE)("", BASE.sha256)}, "base_model is not a name"),
        ({"base": type(BASE)("tiny", "short")}, "base_sha256 is not a SHA-256"),
        ({"alpha": -1}, "alpha is not above 0"),
    ],
)
def test_seals_no_manifest_that_says_nothing(changes, message):
    with pytest.raises(ArtifactRejected, match=message):
        sealed_adapter(**changes)


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("rank", 3, "not all of rank 3"),
        ("rank", 0, "rank is not above 0"),
        ("targets", ["q_proj"], "change other modules"),
        ("targets", ["q_proj", "down_proj"], "targets is not distinct names in order"),
        ("kind", "kmeans", "kind is not 'lora'"),
    ],
)
def test_refuses_a_manifest_that_its_weights_contradict(entry, value, message):
    manifest, arrays = ADAPTER_FILE.read(sealed_adapter())
    table = {**sealed_table(manifest), entry: value}
    with pytest.raises(ArtifactRejected, match=message):
        load(laid_out(table, arrays))


def sealed_table(manifest):
    table = {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}
    return {**table, "created_at": "2026-11-23T12:00:00Z", "targets": list(manifest.targets)}


def laid_out(table, arrays):
    table["checksum"] = sealed_file.checksum(table, arrays)
    return sealed_file.write_safetensors(ADAPTER_FILE.key, table, arrays)
