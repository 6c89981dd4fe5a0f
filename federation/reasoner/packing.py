"""Packs answers into trees, so that the model reads what answers share only once.

The answers to one prompt share that prompt, short ones share beginnings, and all prompts of a chat
model share how they begin. A token's place in the tree says all that its logits depend on; the mask
lets it see its ancestors, so the packed pass equals one row per answer up to rounding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class PromptResponse(NamedTuple):
    """A prompt and one answer to it, as tokens."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]

    @property
    def read(self) -> tuple[int, ...]:
        """What the model reads to predict the response: all but its last token."""
        return self.prompt + self.response[:-1]


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Pairs packed into one row of distinct tokens; each comes after its parent.

    Attributes:
        members: Which sequels are packed, in the order of `picked`.
        tokens: Shape ``(n,)``.
        positions: How many tokens are above each; shape ``(n,)``.
        mask: Which tokens each sees: its ancestors and itself; shape ``(n, n)``.
        read: Tokens whose logits are needed; shape ``(n_read,)``.
        picked: For each response token of each member, which of `read` predicts it.
        targets: That response token; same shape.
    """

    members: list[int]
    tokens: Tensor
    positions: Tensor
    mask: Tensor
    read: Tensor
    picked: Tensor
    targets: Tensor


def pack(pairs: Sequence[PromptResponse], most_tokens: int) -> Iterator[Tree]:
    """Pack pairs into trees of at most `most_tokens`; a longer pair has a tree of its own."""
    ordered = sorted(range(len(pairs)), key=lambda at: pairs[at].read)
    members: list[int] = []
    size, before = 0, tuple[int, ...]()
    for at in ordered:
        tokens = pairs[at].read
        added = len(tokens) - _shared(before, tokens)
        if members and size + added > most_tokens:
            yield _grow(pairs, members)
            members, size, added = [], 0, len(tokens)
        members.append(at)
        size, before = size + added, tokens
    if members:
        yield _grow(pairs, members)


def _grow(pairs: Sequence[PromptResponse], members: list[int]) -> Tree:
    """Build the tree of pairs in lexicographic order: each leaves the path of the one before."""
    tokens: list[int] = []
    parents: list[int] = []
    positions: list[int] = []
    path: list[int] = []
    before: tuple[int, ...] = ()
    predicting: list[int] = []
    targets: list[int] = []
    for at in members:
        pair = pairs[at]
        own = pair.read
        del path[_shared(before, own) :]
        for token in own[len(path) :]:
            parents.append(path[-1] if path else -1)
            positions.append(len(path))
            path.append(len(tokens))
            tokens.append(token)
        predicting += path[len(pair.prompt) - 1 :]
        targets += pair.response
        before = own
    mask = torch.eye(len(tokens), dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            mask[node] |= mask[parent]
    read = sorted(set(predicting))
    row_of = {node: row for row, node in enumerate(read)}
    return Tree(
        members,
        torch.tensor(tokens),
        torch.tensor(positions),
        mask,
        torch.tensor(read),
        torch.tensor([row_of[node] for node in predicting]),
        torch.tensor(targets),
    )


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens both begin with."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))
