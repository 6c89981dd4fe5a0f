"""Where a site stands in a session, kept after every step: what a killed node finds again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from federation.protocol.protocol import Payload


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Where a site stands in a phase.

    Attributes:
        number: Of the phase.
        question: Digest of what was asked.
        learner: A learner's checkpoint.
        figures: Of each step since the round began.
        answer: None while there are steps to take.
    """

    number: int
    question: str
    learner: Mapping[str, Any]
    figures: tuple[tuple[float, ...], ...] = ()
    answer: Payload | None = None


class States(Protocol):
    """A site's states in one session: of the phase it works at, and of the one before."""

    def read(self, number: int) -> State | None:
        """Return a phase's state; None where there is none that can be used."""
        ...

    def read_before(self, number: int) -> State | None:
        """Return the state of the latest phase before this one."""
        ...

    def write(self, state: State) -> None:
        """Keep a state, whole or not at all; forget what no question can need any more."""
        ...

    def clear(self) -> None:
        """Forget them all."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryStates:
    """Keeps them in memory."""

    kept: dict[int, State] = field(default_factory=dict)

    def read(self, number: int) -> State | None:
        """Return a phase's state."""
        return self.kept.get(number)

    def read_before(self, number: int) -> State | None:
        """Return the state of the latest phase before this one."""
        earlier = [each for each in self.kept if each < number]
        return self.kept[max(earlier)] if earlier else None

    def write(self, state: State) -> None:
        """Keep a state, and the latest one before it."""
        earlier = self.read_before(state.number)
        self.kept.clear()
        self.kept.update({each.number: each for each in (earlier, state) if each is not None})

    def clear(self) -> None:
        """Forget them all."""
        self.kept.clear()
