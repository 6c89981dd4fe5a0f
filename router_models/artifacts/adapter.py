"""LoRA adapters as sealed files: low-rank weights, with the model they change and their origin."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from safetensors.numpy import save as save_safetensors

from router_models.artifacts.sealed_file import Manifest, SealedFile, require
from router_models.errors import ArtifactRejected
from router_models.estimators.arrays import add_prefix, strip_prefix
from router_models.types import Arrays, Float32

FORMAT_VERSION: Final = 1
KIND: Final = "lora"
PREFIX: Final = "adapter/"
WEIGHT_NAME: Final = re.compile(
    r"base_model\.model\.(?P<module>[\w.]+)\.lora_(?P<side>[AB])\.weight", re.ASCII
)
"""What peft calls a weight in the files it saves; A is ``(rank, in)``, B ``(out, rank)``."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The frozen model that an adapter belongs to.

    Attributes:
        id: Its name, such as ``HuggingFaceTB/SmolLM2-135M-Instruct``.
        sha256: Digest of its weights.
    """

    id: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterManifest(Manifest):
    """What an adapter changes and how.

    Attributes:
        base_model: Name of the model it was trained on.
        base_sha256: Digest of that model's weights.
        rank: Columns of each B, rows of each A.
        alpha: The product of B and A counts ``alpha / rank`` times.
        targets: Last names of the modules it changes, sorted.
    """

    base_model: str
    base_sha256: str
    rank: int
    alpha: int
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """An adapter as it was sealed; weights by the name that peft gives them."""

    manifest: AdapterManifest
    weights: Mapping[str, Float32]

    @property
    def version(self) -> str:
        """Name of the artefact."""
        return self.manifest.version

    def pairs(self) -> dict[str, tuple[Float32, Float32]]:
        """Return A and B of every module, sorted by its name in the base model."""
        return _pairs(self.weights)

    def to_peft(self) -> dict[str, bytes]:
        """Return the files of a folder that peft, transformers and vLLM load, by name."""
        manifest = self.manifest
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": manifest.base_model,
            "r": manifest.rank,
            "lora_alpha": manifest.alpha,
            "lora_dropout": 0.0,
            # In full: the last names alone would stand for layers that have no adapter, too.
            "target_modules": list(self.pairs()),
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
        }
        return {
            "adapter_config.json": json.dumps(config, indent=2).encode() + b"\n",
            "adapter_model.safetensors": save_safetensors(
                dict(self.weights), metadata={"format": "pt"}
            ),
        }


def _parse(table: Mapping[str, Any]) -> dict[str, Any]:
    require(table["kind"] == KIND, "kind", f"{KIND!r}")
    base = table["base_model"]
    require(isinstance(base, str) and base != "", "base_model", "a name")
    digest = table["base_sha256"]
    require(
        isinstance(digest, str) and _SHA256.fullmatch(digest) is not None,
        "base_sha256",
        "a SHA-256",
    )
    require(type(table["rank"]) is int and table["rank"] > 0, "rank", "above 0")
    require(type(table["alpha"]) is int and table["alpha"] > 0, "alpha", "above 0")
    targets = table["targets"]
    require(
        isinstance(targets, list)
        and len(targets) > 0
        and all(isinstance(target, str) for target in targets)
        and targets == sorted(set(targets)),
        "targets",
        "distinct names in order",
    )
    return {"targets": tuple(targets)}


ADAPTER_FILE: Final = SealedFile(
    key="waypost-adapter",
    noun="adapter",
    format_version=FORMAT_VERSION,
    manifest=AdapterManifest,
    parse=_parse,
    prefixes=(PREFIX,),
)


def dump(
    weights: Mapping[str, Float32],
    base: BaseModel,
    *,
    alpha: int,
    created_at: datetime,
    training: Mapping[str, Any],
    provenance: Mapping[str, int],
    parent: str | None = None,
) -> bytes:
    """Turn an adapter's weights into an artefact.

    What this returns is what `load` accepts: it is loaded once before it is handed out.

    Args:
        weights: A and B of every module, by the names of `WEIGHT_NAME`.
        base: What they were trained on.
        alpha: Of LoRA, arXiv 2106.09685.
        created_at: With a time zone; kept to the second.
        training: Figures of the training run; JSON, finite numbers only.
        provenance: What it was trained on, as counts.
        parent: Version it was trained from.

    Raises:
        ArtifactRejected: The weights are no adapter.
        ValueError: `created_at` has no time zone, or `training` is not JSON.
    """
    pairs = _pairs(weights)
    manifest = AdapterManifest(
        format_version=FORMAT_VERSION,
        kind=KIND,
        base_model=base.id,
        base_sha256=base.sha256,
        rank=next(iter(pairs.values()))[0].shape[0],
        alpha=int(alpha),
        targets=tuple(sorted({module.rpartition(".")[2] for module in pairs})),
        created_at=created_at,
        training=training,
        provenance=provenance,
        parent=parent,
    )
    data = ADAPTER_FILE.write(manifest, add_prefix(PREFIX, weights))
    load(data)
    return data


def load(data: bytes) -> Adapter:
    """Verify an artefact and return its adapter.

    Raises:
        ArtifactRejected: The bytes are corrupt, of another format, or hold no adapter.
    """
    manifest, arrays = ADAPTER_FILE.read(data)
    adapter = Adapter(manifest, strip_prefix(PREFIX, arrays))
    pairs = adapter.pairs()
    ranks = {(down.shape[0], up.shape[1]) for down, up in pairs.values()}
    if ranks != {(manifest.rank, manifest.rank)}:
        raise ArtifactRejected(f"its weights are not all of rank {manifest.rank}")
    if {module.rpartition(".")[2] for module in pairs} != set(manifest.targets):
        raise ArtifactRejected("its weights change other modules than its manifest says")
    return adapter


def _pairs(weights: Arrays) -> dict[str, tuple[Float32, Float32]]:
    """Put A and B of each module together.

    Raises:
        ArtifactRejected: A name, a type or a shape is not an adapter's, or one of a pair lacks.
    """
    sides: dict[str, dict[str, Float32]] = {}
    for name, array in weights.items():
        match = WEIGHT_NAME.fullmatch(name)
        if match is None or array.dtype != np.float32 or array.ndim != 2 or array.size == 0:
            raise ArtifactRejected(f"{name!r} is no float32 matrix A or B of a LoRA adapter")
        sides.setdefault(match["module"], {})[match["side"]] = array
    halves = [module for module, found in sides.items() if len(found) < 2]
    if halves or not sides:
        missing = halves[0] if halves else "every module"
        raise ArtifactRejected(f"an adapter needs A and B of each module: {missing} lacks one")
    return {module: (sides[module]["A"], sides[module]["B"]) for module in sorted(sides)}
