"""Playing a problem turn by turn: what every environment offers, and the ledger's side of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import numpy as np

from budget.policies.mdp import project
from budget.policies.types import TurnState
from router_models.types import Float32

CHARS_PER_TOKEN: Final = 4
"""Of an answer, for the length of a history whose answers' texts nobody kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """A question split into ordered sub-questions, one per turn.

    Attributes:
        problem_id: Name.
        texts: Of the sub-questions.
        embeddings: Of the same; shape ``(n_turns, dimension)``.
        is_decisive: Per turn: the final answer is right only if this turn is.
    """

    problem_id: str
    texts: tuple[str, ...]
    embeddings: Float32
    is_decisive: tuple[bool, ...]


class Answer(NamedTuple):
    """What the solver made of one turn.

    Attributes:
        tokens: Used, at most what was allotted.
        is_right: The turn's answer is right, and complete.
        was_cut_off: The allotment stopped it.
    """

    tokens: int
    is_right: bool
    was_cut_off: bool


class Solver(Protocol):
    """Answers the turns of one problem, in order, once."""

    def answer(self, turn: int, allotted_tokens: int) -> Answer:
        """Answer turn `turn` within `allotted_tokens`."""
        ...


class Environment(Protocol):
    """Problems and whoever solves them."""

    @property
    def problems(self) -> Sequence[Problem]:
        """What can be asked."""
        ...

    def start(self, problem: int, rng: np.random.Generator, rollouts: int = 1) -> Sequence[Solver]:
        """Begin the problem of this index so many times over.

        A replay lets all rollouts meet the same draws: they then differ by what was allotted
        alone, which has the same mean gradient as independent draws (the paper's) and less noise.
        """
        ...


@dataclass(slots=True, eq=False)
class Conversation:
    """One problem under way, with the account that a gateway would keep of it.

    Attributes:
        problem: What is asked.
        solver: Who answers.
        budget_tokens: B.
        is_enforced: What is really used never passes B. The paper's training only punishes that.
        used_tokens: By the answers so far.
        allotted_tokens: Sum of what the turns so far were allotted.
        turn: The one to answer next.
        is_right: Every decisive turn so far was.
    """

    problem: Problem
    solver: Solver
    budget_tokens: int
    is_enforced: bool = True
    used_tokens: int = 0
    allotted_tokens: int = 0
    turn: int = 0
    is_right: bool = True
    _was_cut_off: bool = field(default=False, repr=False)
    _cut_off_turns: int = field(default=0, repr=False)
    _history_chars: int = field(default=0, repr=False)

    @property
    def is_over(self) -> bool:
        """Whether every turn was answered."""
        return self.turn == len(self.problem.texts)

    def state(self) -> TurnState:
        """Return what a policy sees of the turn to answer next, plan included."""
        problem, turn = self.problem, self.turn
        return TurnState(
            budget_tokens=self.budget_tokens,
            remaining_tokens=self.budget_tokens - self.used_tokens,
            used_tokens=self.used_tokens,
            turn_index=turn,
            embedding=problem.embeddings[turn],
            prompt_chars=len(problem.texts[turn]),
            history_chars=self._history_chars,
            was_cut_off=self._was_cut_off,
            cut_off_turns=self._cut_off_turns,
            text=problem.texts[turn],
            plan=problem.embeddings,
            plan_texts=problem.texts,
            plan_position=turn,
        )

    def answer(self, proposed_tokens: int) -> Answer:
        """Have the turn answered within the proposal, or within what remains if that is less."""
        allotted = proposed_tokens
        if self.is_enforced:
            allotted = project(proposed_tokens, self.budget_tokens - self.used_tokens)
        answer = self.solver.answer(self.turn, allotted)
        self.allotted_tokens += allotted
        self.used_tokens += answer.tokens
        self.is_right &= answer.is_right or not self.problem.is_decisive[self.turn]
        self._was_cut_off = answer.was_cut_off
        self._cut_off_turns += answer.was_cut_off
        self._history_chars += len(self.problem.texts[self.turn])
        self._history_chars += CHARS_PER_TOKEN * answer.tokens
        self.turn += 1
        return answer
