"""What a model is asked for, told from its name."""

import re
from typing import Final

from gateway.types import ModelKind

WITH_OUTPUT: Final = frozenset[ModelKind]({"chat", "completions"})
"""Kinds of models that put out tokens, and charge for them."""
_RERANKS: Final = re.compile(r"rerank", re.IGNORECASE)
_EMBEDS: Final = re.compile(r"embed|(^|[/_-])(bge|e5|gte|minilm)\b", re.IGNORECASE)
_COMPLETES: Final = re.compile(r"gpt-3\.5-turbo-instruct|(^|/)(davinci|babbage)-002", re.IGNORECASE)


def kind_of(upstream_name: str) -> ModelKind:
    """Judge by name what a model is asked for."""
    if _RERANKS.search(upstream_name):
        return "rerank"
    if _EMBEDS.search(upstream_name):
        return "embeddings"
    return "completions" if _COMPLETES.search(upstream_name) else "chat"
