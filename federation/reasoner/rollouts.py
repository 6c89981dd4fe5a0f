"""Draws answers to prompts from the model that learns: the one interface, and the local way."""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import takewhile
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache

from federation.reasoner.lora import autocast_context, require_context_length
from federation.reasoner.prompts import ChatTokenizer, Prompt, tokens_of
from federation.reasoner.responses import Response
from federation.reasoner.settings import ReasonerSettings


class Sampler(Protocol):
    """Draws answers from the model as it is now."""

    def sample(self, prompts: Sequence[Prompt], k: int, seed: int) -> list[list[Response]]:
        """Return `k` answers to each prompt; the same model and seed give the same answers."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LocalSampler:
    """Draws on the spot, with what answers share computed once.

    What all prompts begin with is read once, and answers to one prompt that are the same so far
    are one row of the batch. Each answer has its own random numbers, so sharing changes nothing.

    Attributes:
        model: With its adapters; draws change nothing in it.
        tokenizer: Its own.
        settings: Temperature, longest answer and precision.
    """

    model: PeftModel
    tokenizer: ChatTokenizer
    settings: ReasonerSettings

    def sample(self, prompts: Sequence[Prompt], k: int, seed: int) -> list[list[Response]]:
        """Return `k` answers to each prompt."""
        settings = self.settings
        read = [tokens_of(prompt, self.tokenizer) for prompt in prompts]
        longest = settings.max_new_tokens
        chances = np.random.default_rng(seed).random((len(prompts) * k, longest))
        drawing = _Drawing(chances, self.tokenizer.eos_token_id)
        with torch.no_grad(), autocast_context(self.model, settings):
            state = _read_prompts(self.model, read)
            rows = [list(range(row * k, (row + 1) * k)) for row in range(len(prompts))]
            while rows:
                logits = state.logits.float() / settings.temperature
                parents, tokens, rows = drawing.draw(logits.log_softmax(dim=1), rows)
                if rows:
                    state = state.after(self.model, parents, tokens)
        drawn = [
            Response(
                text=self.tokenizer.decode(ids, skip_special_tokens=True),
                tokens=tuple(ids),
                log_probabilities=tuple(seen),
                is_complete=ids[-1] == drawing.end,
            )
            for ids, seen in zip(drawing.tokens, drawing.log_probabilities, strict=True)
        ]
        return [drawn[first : first + k] for first in range(0, len(drawn), k)]


class _Drawing:
    """The answers of a batch as they grow.

    Attributes:
        chances: One number in [0, 1) for each answer and place; shape ``(n, longest)``.
        end: The token that ends an answer.
    """

    def __init__(self, chances: NDArray[np.float64], end: int) -> None:
        self.chances = chances
        self.end = end
        self.tokens: list[list[int]] = [[] for _ in chances]
        self.log_probabilities: list[list[float]] = [[] for _ in chances]

    def draw(
        self, log_probabilities: Tensor, rows: Sequence[Sequence[int]]
    ) -> tuple[list[int], list[int], list[list[int]]]:
        """Draw every answer's next token.

        Args:
            log_probabilities: Of every token; shape ``(n_rows, n_tokens)``.
            rows: Which answers share each row.

        Returns:
            For each row of the next step: the row it goes on from, its token, its answers.
        """
        place = len(self.tokens[rows[0][0]])
        widest = max(map(len, rows))
        padded = [list(row) + [row[0]] * (widest - len(row)) for row in rows]
        # Inverse of the distribution function; in double precision the last token has its chance.
        heights = log_probabilities.exp().cumsum(dim=1, dtype=torch.float64)
        targets = torch.tensor(self.chances[padded, place], device=heights.device)
        drawn = torch.searchsorted(heights, targets * heights[:, -1:], right=True)
        drawn = drawn.clamp(max=heights.shape[1] - 1)
        seen = log_probabilities.gather(1, drawn).tolist()
        following: dict[tuple[int, int], list[int]] = {}
        for row, (answers, tokens, chances) in enumerate(
            zip(rows, drawn.tolist(), seen, strict=True)
        ):
            for answer, token, chance in zip(answers, tokens, chances, strict=False):
                self.tokens[answer].append(token)
                self.log_probabilities[answer].append(chance)
                if token != self.end and place + 1 < self.chances.shape[1]:
                    following.setdefault((row, token), []).append(answer)
        parents = [row for row, _ in following]
        return parents, [token for _, token in following], list(following.values())


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """What a model has read, one row per distinct text.

    Attributes:
        cache: Keys and values.
        mask: Which of their places count; shape ``(n_rows, n_places)``.
        logits: Of the next token; shape ``(n_rows, n_tokens)``.
    """

    cache: Any
    mask: Tensor
    logits: Tensor

    def after(self, model: PeftModel, parents: Sequence[int], tokens: Sequence[int]) -> "_State":
        """Read one token more in each row, after the row it goes on from."""
        kept = torch.tensor(parents, device=self.mask.device)
        if parents != list(range(len(self.mask))):
            self.cache.batch_select_indices(kept)
        ids = torch.tensor(tokens, device=self.mask.device)[:, None]
        mask = torch.cat([self.mask[kept], torch.ones_like(ids)], dim=1)
        return _read(model, ids, mask, self.cache)


def _read_prompts(model: PeftModel, prompts: Sequence[Sequence[int]]) -> _State:
    """Read what all prompts begin with once, then what differs, aligned at its end."""
    device = model.device
    # The last token is always read with its own row: its logits are what is asked for.
    columns = zip(*(prompt[:-1] for prompt in prompts), strict=False)
    shared = len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
    cache = DynamicCache(config=model.config)
    if shared:
        opening = torch.tensor([prompts[0][:shared]], device=device)
        _read(model, opening, torch.ones_like(opening), cache)
        cache.batch_repeat_interleave(len(prompts))
    longest = max(map(len, prompts))
    gaps = [longest - len(prompt) for prompt in prompts]
    ids = [[0] * gap + list(prompt[shared:]) for gap, prompt in zip(gaps, prompts, strict=True)]
    mask = [[1] * shared + [0] * gap + [1] * (longest - gap - shared) for gap in gaps]
    return _read(model, torch.tensor(ids, device=device), torch.tensor(mask, device=device), cache)


def _read(model: PeftModel, ids: Tensor, mask: Tensor, cache: Any) -> _State:
    require_context_length(model, mask.shape[1])
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    read = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        use_cache=True,
        # As an index, not a number: a slice would be no contiguous matrix, which costs 0.1 s here.
        logits_to_keep=torch.tensor([ids.shape[1] - 1], device=ids.device),
        **{_cache_argument(model): cache},
    )
    return _State(cache, mask, read.logits[:, -1])


def _cache_argument(model: PeftModel) -> str:
    """Say what the model calls the cache that it is given: transformers 5.24 renamed it."""
    known = signature(model.get_base_model().forward).parameters
    return "cache" if "cache" in known else "past_key_values"
