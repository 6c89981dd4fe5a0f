"""A frozen base model with LoRA adapters: the only weights that learn and travel."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from federation.reasoner.aggregate import A_MARK, B_MARK, Weights
from federation.reasoner.settings import ReasonerSettings
from router_models.types import Float32


def load_base(
    source: str | Path,
    *,
    gguf_file: str | None = None,
    dtype: torch.dtype | Literal["auto"] = torch.float32,
    device: str = "cpu",
) -> tuple[PreTrainedModel, Any]:
    """Load a causal language model and its tokenizer.

    Args:
        source: Folder, or id on the hub.
        gguf_file: Name of a GGUF file there; its weights are unpacked.
        dtype: Of the frozen weights; ``auto`` is that of the files.
        device: Where the model computes.
    """
    where = {"gguf_file": gguf_file} if gguf_file else {}
    tokenizer = AutoTokenizer.from_pretrained(str(source), **where)
    base: Any = AutoModelForCausalLM.from_pretrained(str(source), dtype=dtype, **where)
    return base.to(device).eval(), tokenizer


def autocast_context(model: PeftModel, settings: ReasonerSettings) -> torch.autocast:
    """Return the context to compute in; see `ReasonerSettings.mixed_precision`."""
    device = model.device.type
    return torch.autocast(
        device, torch.bfloat16, enabled=settings.mixed_precision and device != "cpu"
    )


def require_context_length(model: PeftModel, n_tokens: int) -> None:
    """Refuse texts longer than what every layer of a model sees.

    Our masks say which tokens are seen, whole texts: a layer with a shorter window would be another
    layer than the one that is served.

    Raises:
        ValueError: Some layers see less than `n_tokens` back.
    """
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    if window is not None and n_tokens > window:
        raise ValueError(
            f"layers of this model see {window} tokens back, fewer than the {n_tokens} of a prompt "
            "and its answer: shorten them, or tune a model without sliding windows"
        )


def base_sha256(base: nn.Module) -> str:
    """Digest the names and values of all weights, to be taken before adapters are attached.

    Sites with and without a GPU have the same digest: values count, not how they are kept.
    """
    digest = hashlib.sha256()
    for name, weights in sorted(base.state_dict().items()):
        plain = weights.detach().cpu().float().contiguous().flatten()
        digest.update(f"{name} {plain.dtype} {tuple(weights.shape)}\n".encode())
        digest.update(plain.view(torch.uint8).numpy())
    return digest.hexdigest()


def attach_lora(base: PreTrainedModel, settings: ReasonerSettings, seed: int) -> PeftModel:
    """Freeze a model and add adapters that change nothing yet; the seed draws A, and B is zero."""
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules=list(settings.lora_targets),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = get_peft_model(base, config)
    return model.eval()


def lora_weights(model: PeftModel) -> Weights:
    """Return a copy of the adapters, in the order of their names."""
    found = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: found[name].detach().float().cpu().numpy().copy() for name in sorted(found)}


def load_lora(model: PeftModel, weights: Mapping[str, Float32]) -> None:
    """Overwrite the adapters.

    Raises:
        ValueError: Names or shapes are another model's; nothing was changed.
    """
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    shapes = {name: tuple(one.shape) for name, one in own.items()}
    if {name: np.shape(one) for name, one in weights.items()} != shapes:
        raise ValueError("the adapters were made for another model or with other settings")
    with torch.no_grad():
        for name, one in own.items():
            one.copy_(torch.tensor(weights[name]))


def set_trainable(model: PeftModel, part: Literal["both", "A", "B"]) -> None:
    """Let gradients reach A, B or both."""
    marks = {"both": (A_MARK, B_MARK), "A": (A_MARK,), "B": (B_MARK,)}[part]
    for name, weights in model.named_parameters():
        if A_MARK in name or B_MARK in name:
            weights.requires_grad_(any(mark in name for mark in marks))
