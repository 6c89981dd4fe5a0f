"""Small LoRA adapters as training leaves them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from router_models.artifacts.adapter import BaseModel, dump

BASE = BaseModel("tiny-llama", "ab" * 32)
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def adapter_weights(
    modules: Sequence[str] = ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"),
    *,
    rank: int = 2,
    width: int = 6,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Draw A and B of each module; the modules are square."""
    rng = np.random.default_rng(seed)
    weights = {}
    for module in modules:
        name = f"base_model.model.{module}"
        weights[f"{name}.lora_A.weight"] = rng.normal(size=(rank, width)).astype(np.float32)
        weights[f"{name}.lora_B.weight"] = rng.normal(size=(width, rank)).astype(np.float32)
    return weights


def sealed_adapter(*, seed: int = 0, base: BaseModel = BASE, **changes: Any) -> bytes:
    """Seal drawn weights."""
    given: dict[str, Any] = {
        "weights": adapter_weights(seed=seed),
        "alpha": 4,
        "created_at": NOW,
        "training": {"steps": 3},
        "provenance": {"prompts": 8},
    }
    return dump(base=base, **{**given, **changes})
