"""A site's states on disk: what a node that was killed goes on from."""

import io
import logging
import pickle
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from federation.deployment.sessions import FileCheckpoints
from federation.reasoner.states import State

SUFFIX: Final = ".state"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FileStates:
    """Keeps each state in a file, named after its phase."""

    folder: Path

    @classmethod
    def of_session(cls, folder: Path, session: str) -> "FileStates":
        """Open the states of a session; those of others are deleted.

        Args:
            folder: Holds nothing else.
            session: As the coordinator calls it, which is no name for a file.
        """
        own = folder / sha256(session.encode()).hexdigest()[:32]
        if not own.exists():
            shutil.rmtree(folder, ignore_errors=True)
            own.mkdir(parents=True, mode=0o700)
        return cls(own)

    def read(self, number: int) -> State | None:
        """Return a phase's state; None where there is none that can be used."""
        data = FileCheckpoints(self._path(number)).load()
        if data is None:
            return None
        try:
            return _parse(torch.load(io.BytesIO(data), weights_only=True))
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
            logger.warning("%s is damaged and is not used: %s", self._path(number), error)
            return None

    def read_before(self, number: int) -> State | None:
        """Return the state of the latest phase before this one."""
        earlier = (self.read(each) for each in reversed(self._numbers()) if each < number)
        return next((state for state in earlier if state is not None), None)

    def write(self, state: State) -> None:
        """Keep a state, and the latest one before it."""
        content = io.BytesIO()
        torch.save(_lay_out(state), content)
        FileCheckpoints(self._path(state.number)).save(content.getvalue())
        kept = [number for number in self._numbers() if number <= state.number][-2:]
        for number in set(self._numbers()) - set(kept):
            self._path(number).unlink()

    def clear(self) -> None:
        """Forget them all."""
        for number in self._numbers():
            self._path(number).unlink()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}{SUFFIX}"

    def _numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob(f"*{SUFFIX}"))


def _lay_out(state: State) -> dict[str, Any]:
    """Return tensors and plain values, all that is ever read back."""
    answer = state.answer
    return {
        "number": state.number,
        "question": state.question,
        "learner": dict(state.learner),
        "figures": [list(step) for step in state.figures],
        "answer": answer and {name: torch.tensor(array) for name, array in answer.items()},
    }


def _parse(table: Any) -> State:
    answer = table["answer"]
    return State(
        number=int(table["number"]),
        question=table["question"],
        learner=table["learner"],
        figures=tuple(tuple(step) for step in table["figures"]),
        answer=answer and {name: np.asarray(one) for name, one in answer.items()},
    )
