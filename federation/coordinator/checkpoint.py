"""A session's progress as bytes, so that a coordinator that was killed can go on."""

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save

from federation.coordinator.strategies import Progress
from federation.errors import CheckpointRejected, PlanRefused
from federation.protocol.protocol import Payload, TrainingPlan
from router_models.types import Arrays

_HEAD: Final = "head"
_BEST: Final = "best/"


class Checkpoints(Protocol):
    """Where the latest checkpoint is kept; writing one replaces the one before."""

    def load(self) -> bytes | None:
        """Return the latest checkpoint; None where there is none."""
        ...

    def save(self, data: bytes) -> None:
        """Keep a checkpoint; whole or not at all."""
        ...

    def clear(self) -> None:
        """Forget it: its session is over."""
        ...


def write(head: Mapping[str, Any], arrays: Arrays) -> bytes:
    """Lay out what JSON can hold, and arrays."""
    return save({n: np.ascontiguousarray(a) for n, a in arrays.items()}, {_HEAD: json.dumps(head)})


def read(data: bytes) -> tuple[dict[str, Any], Payload]:
    """Read `write`.

    Raises:
        CheckpointRejected: The bytes are damaged.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        head = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_HEAD])
        return dict(head), load_safetensors(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointRejected("the checkpoint is damaged") from error


def dump(plan: TrainingPlan, progress: Progress) -> bytes:
    """Write what it takes to go on."""
    head = {
        "plan": plan.to_json(),
        "round": progress.round,
        "best_round": progress.best_round,
        "losses": {str(round_): loss for round_, loss in progress.losses.items()},
        "sites": sorted(progress.sites),
    }
    best = {_BEST + name: array for name, array in progress.best.items()}
    return write(head, {**progress.state, **best})


def load(data: bytes, plan: TrainingPlan) -> tuple[TrainingPlan, Progress]:
    """Read `dump`.

    Returns:
        The plan with what the sites have settled, and how far it has come.

    Raises:
        CheckpointRejected: The bytes are damaged, or `plan` is another than theirs.
    """
    head, arrays = read(data)
    try:
        found = TrainingPlan.from_json(head["plan"])
        losses = {int(round_): float(loss) for round_, loss in head["losses"].items()}
        numbers, sites = (int(head["round"]), int(head["best_round"])), frozenset(head["sites"])
    except (PlanRefused, ValueError, KeyError, TypeError) as error:
        raise CheckpointRejected("the checkpoint is damaged") from error
    if found.without_columns() != plan.without_columns():
        raise CheckpointRejected("the checkpoint was made with another plan")
    best = {n.removeprefix(_BEST): a for n, a in arrays.items() if n.startswith(_BEST)}
    state = {name: array for name, array in arrays.items() if not name.startswith(_BEST)}
    return found, Progress(numbers[0], state, best, numbers[1], losses, sites)
