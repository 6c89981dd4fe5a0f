"""A real causal language model, too small to know anything, and a tokenizer of bytes."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def tiny_model(seed: int = 0, width: int = 16, n_tokens: int = 256) -> LlamaForCausalLM:
    """Make a model of two layers and random weights, large enough that inputs matter."""
    config = LlamaConfig(
        vocab_size=n_tokens,
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: LlamaForCausalLM = LlamaForCausalLM(config).eval()
    return model


class ByteTokenizer:
    """One token per byte; a leading space belongs to what follows, as in most tokenizers."""

    def __call__(self, text: list[str], *, add_special_tokens: bool) -> Mapping[str, Any]:
        del add_special_tokens
        return {"input_ids": [list(one.removeprefix(" ").encode()) for one in text]}


def tiny_tokenizer() -> ByteTokenizer:
    return ByteTokenizer()
