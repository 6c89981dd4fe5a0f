"""Who proposes a turn's tokens: the interface, and the policies that learn nothing or little."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from budget.policies.types import TurnState
from router_models.estimators.arrays import fit_width, read_array
from router_models.types import Arrays, Float32


class BudgetPolicy(Protocol):
    """Proposes how many tokens a turn gets; read-only once built."""

    kind: ClassVar[str]

    @property
    def choices(self) -> tuple[int, ...]:
        """What it can propose, in tokens, ascending."""
        ...

    def probabilities(self, state: TurnState) -> Float32:
        """Return how likely each choice is; shape ``(len(choices),)``, sums to 1."""
        ...


class StoredPolicy(BudgetPolicy, Protocol):
    """A policy that an artefact can hold."""

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs, as named arrays."""
        ...

    @classmethod
    def from_arrays(cls, choices: tuple[int, ...], arrays: Arrays) -> Self:
        """Rebuild from `to_arrays`.

        Raises:
            ArtifactRejected: An array is missing or has the wrong shape.
        """
        ...


def one_hot_within(tokens: float, choices: tuple[int, ...]) -> Float32:
    """Return probability 1 for the largest choice within `tokens`, or else for the smallest."""
    within = sum(choice <= tokens for choice in choices)
    return _only(max(within - 1, 0), len(choices))


def one_hot_covering(tokens: float, choices: tuple[int, ...]) -> Float32:
    """Return probability 1 for the smallest choice of at least `tokens`, or else the largest."""
    below = sum(choice < tokens for choice in choices)
    return _only(min(below, len(choices) - 1), len(choices))


def _only(index: int, n_choices: int) -> Float32:
    probabilities = np.zeros(n_choices, np.float32)
    probabilities[index] = 1.0
    return probabilities


@dataclass(frozen=True, slots=True)
class StaticPolicy:
    """The same tokens for every turn.

    Attributes:
        choices: What can be proposed; a tuned constant may well be the only one.
        choice: Index of the one that is.
    """

    kind: ClassVar[str] = "static"

    choices: tuple[int, ...]
    choice: int = 0

    def probabilities(self, state: TurnState) -> Float32:
        """Return how likely each choice is."""
        del state
        return _only(self.choice, len(self.choices))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs, as named arrays."""
        return {"choice": np.array([self.choice], np.int64)}

    @classmethod
    def from_arrays(cls, choices: tuple[int, ...], arrays: Arrays) -> Self:
        """Rebuild from `to_arrays`."""
        return cls(choices, int(read_array(arrays, "choice", (1,))[0]))


@dataclass(frozen=True, slots=True)
class SplitPolicy:
    """Shares what remains over the turns still to come, earlier ones with more weight.

    Turn t of T has weight ``((T - t) / T) ** power``. Power 0 is the proportional split; above 0
    it is the polynomial decay schedule of Plan-and-Budget, arXiv 2505.16122, section 4.

    Attributes:
        choices: What can be proposed.
        expected_turns: T where the caller gives no plan.
        power: How fast later turns lose weight.
    """

    kind: ClassVar[str] = "split"

    choices: tuple[int, ...]
    expected_turns: int
    power: float = 0.0

    def probabilities(self, state: TurnState) -> Float32:
        """Return how likely each choice is."""
        turn, n_turns = state.turn_index, self.expected_turns
        if state.plan is not None:
            turn, n_turns = state.plan_position, len(state.plan)
        n_turns = max(n_turns, turn + 1)
        weights = ((n_turns - np.arange(turn, n_turns)) / n_turns) ** self.power
        share = float(weights[0] / weights.sum())
        return one_hot_within(state.remaining_tokens * share, self.choices)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs, as named arrays."""
        return {"schedule": np.array([self.expected_turns, self.power], np.float64)}

    @classmethod
    def from_arrays(cls, choices: tuple[int, ...], arrays: Arrays) -> Self:
        """Rebuild from `to_arrays`."""
        expected_turns, power = read_array(arrays, "schedule", (2,)).tolist()
        return cls(choices, int(expected_turns), power)


@dataclass(frozen=True, slots=True, eq=False)
class DifficultyPolicy:
    """Rates each question on its own and allots what an answer of that length needs.

    Difficulty is the predicted length of a right answer: linear in the embedding, in log tokens.

    Attributes:
        choices: What can be proposed.
        weights: Shape ``(dimension,)``.
        bias: Log tokens of an average question.
        margin: How many times the predicted length is allotted.
    """

    kind: ClassVar[str] = "difficulty"

    choices: tuple[int, ...]
    weights: Float32
    bias: float
    margin: float = 1.0

    def probabilities(self, state: TurnState) -> Float32:
        """Return how likely each choice is."""
        log_tokens = self.bias
        if state.embedding is not None:
            log_tokens += float(fit_width(state.embedding, len(self.weights)) @ self.weights)
        return one_hot_covering(np.exp(min(log_tokens, 20.0)) * self.margin, self.choices)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything `from_arrays` needs, as named arrays."""
        return {"weights": self.weights, "scale": np.array([self.bias, self.margin], np.float64)}

    @classmethod
    def from_arrays(cls, choices: tuple[int, ...], arrays: Arrays) -> Self:
        """Rebuild from `to_arrays`."""
        bias, margin = read_array(arrays, "scale", (2,)).tolist()
        return cls(choices, read_array(arrays, "weights", (None,)), bias, margin)
