"""The learned policies: TAB, and TAB All-SubQ, which also sees the plan's sub-questions."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from budget.policies.mdp import FEATURES, features
from budget.policies.types import TurnState
from router_models.estimators.arrays import Scaler, read_array
from router_models.types import Arrays, Float32


@dataclass(frozen=True, slots=True, eq=False)
class TabPolicy:
    """Reads the question by one layer, and joins the ledger's numbers in one hidden layer.

    Attributes:
        choices: What can be proposed.
        scaler: Applied to embeddings.
        reader: Reads one question; shape ``(dimension, n_read)``, followed by tanh.
        reader_bias: Shape ``(n_read,)``.
        hidden: Shape ``(n_inputs, n_hidden)``, followed by tanh.
        hidden_bias: Shape ``(n_hidden,)``.
        head: Logits; shape ``(n_hidden, n_choices)``.
        head_bias: Shape ``(n_choices,)``.
    """

    kind: ClassVar[str] = "tab"
    blocks: ClassVar[int] = 1
    """How many vectors of length n_read the hidden layer takes in."""
    sees_plan: ClassVar[bool] = False

    choices: tuple[int, ...]
    scaler: Scaler
    reader: Float32
    reader_bias: Float32
    hidden: Float32
    hidden_bias: Float32
    head: Float32
    head_bias: Float32

    def probabilities(self, state: TurnState) -> Float32:
        """Return how likely each choice is."""
        inputs = np.concatenate(
            (self.read_questions(state), features(state, sees_plan=self.sees_plan))
        )
        logits = np.tanh(inputs @ self.hidden + self.hidden_bias) @ self.head + self.head_bias
        odds: Float32 = np.exp(logits - logits.max())
        odds /= odds.sum()
        return odds

    def read_questions(self, state: TurnState) -> Float32:
        """Read what this policy sees of the questions; shape ``(blocks * n_read,)``."""
        if state.embedding is None:
            return np.zeros(len(self.reader_bias), np.float32)
        read: Float32 = self._read(state.embedding[np.newaxis])[0]
        return read

    def _read(self, embeddings: Float32) -> Float32:
        read: Float32 = self.scaler.apply(embeddings) @ self.reader
        read += self.reader_bias
        np.tanh(read, out=read)
        return read

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs, as named arrays."""
        return {
            **self.scaler.to_arrays(),
            "reader": self.reader,
            "reader_bias": self.reader_bias,
            "hidden": self.hidden,
            "hidden_bias": self.hidden_bias,
            "head": self.head,
            "head_bias": self.head_bias,
        }

    @classmethod
    def from_arrays(cls, choices: tuple[int, ...], arrays: Arrays) -> Self:
        """Rebuild from `to_arrays`."""
        scaler = Scaler.from_arrays(arrays)
        reader = read_array(arrays, "reader", (len(scaler.shift), None))
        n_read = reader.shape[1]
        hidden = read_array(arrays, "hidden", (cls.blocks * n_read + len(FEATURES), None))
        return cls(
            choices,
            scaler,
            reader,
            read_array(arrays, "reader_bias", (n_read,)),
            hidden,
            read_array(arrays, "hidden_bias", (hidden.shape[1],)),
            read_array(arrays, "head", (hidden.shape[1], len(choices))),
            read_array(arrays, "head_bias", (len(choices),)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class AllSubQuestionsPolicy(TabPolicy):
    """TAB All-SubQ: mean and maximum of the past and of the coming sub-questions join the input.

    Without a plan it sees the present question alone.
    """

    kind: ClassVar[str] = "allsubq"
    blocks: ClassVar[int] = 5
    sees_plan: ClassVar[bool] = True

    def read_questions(self, state: TurnState) -> Float32:
        """Read present, past and coming questions; shape ``(5 * n_read,)``."""
        n_read = len(self.reader_bias)
        seen = np.zeros((self.blocks, n_read), np.float32)
        if state.plan is None:
            # super() needs the class that slots replaced, so name the parent.
            seen[0] = TabPolicy.read_questions(self, state)
            return seen.ravel()
        read, now = self._read(state.plan), state.plan_position
        seen[0] = read[now] if state.embedding is None else self._read(state.embedding[None])[0]
        for block, part in ((1, read[:now]), (3, read[now + 1 :])):
            if len(part):
                seen[block] = part.mean(axis=0)
                seen[block + 1] = part.max(axis=0)
        return seen.ravel()
