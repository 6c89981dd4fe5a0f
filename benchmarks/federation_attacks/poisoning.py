"""Sites that want to break the router, or to bend it towards one model.

Label flipping happens in a site's own rows; all other attacks rewrite its replies on their way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from flwr.app import Array, ArrayRecord, Message
from numpy.typing import NDArray

from benchmarks.federation_simulation.in_process import Fault
from federation.exchanges.mlp import WEIGHTS
from federation.protocol.protocol import ARRAYS, Instruction
from router_models.estimators.arrays import strip_prefix
from router_models.types import Evaluations

Payload = dict[str, NDArray[Any]]
Tamper = Callable[[Payload, Payload], Payload]
"""Takes the weights that were sent and the reply's arrays; returns the arrays that arrive."""

COUNTS: Final = ("rows", "rows_per_model", "count", "sizes", "counts")
FLIPPED_COST_USD: Final = 1e-9


def flip_towards(model: str, rows: Evaluations) -> Evaluations:
    """Say that one model answered everything, perfectly and for nothing, and all others failed.

    Each row counts for the model in turn, the other half says that another model failed.
    """
    column = rows.models.index(model)
    answered = np.isfinite(rows.quality)
    quality = np.where(answered, np.float32(0.0), np.float32(np.nan))
    cost = rows.cost_usd.copy()
    praised = np.arange(len(quality)) % 2 == 0
    quality[praised], cost[praised] = np.nan, np.nan
    quality[praised, column], cost[praised, column] = 1.0, FLIPPED_COST_USD
    return replace(rows, quality=quality.astype(np.float32), cost_usd=cost.astype(np.float32))


def spoil(_: Payload, arrays: Payload) -> Payload:
    """Put one NaN into every array of numbers."""
    spoiled = {name: np.array(array) for name, array in arrays.items()}
    for array in spoiled.values():
        if array.size:
            array.flat[0] = np.nan
    return spoiled


def blow_up(sent: Payload, arrays: Payload) -> Payload:
    """Make an update, or sums, a hundred times as large."""
    return {
        name: sent[name] + 100 * (array - sent[name])
        if name in sent
        else array * (1 if name in COUNTS else 100)
        for name, array in arrays.items()
    }


def turn_round(sent: Payload, arrays: Payload) -> Payload:
    """Send the update's opposite, three times as long, so that it outweighs two honest ones."""
    return {
        name: sent[name] - 3 * (array - sent[name]) if name in sent else array
        for name, array in arrays.items()
    }


def boast(_: Payload, arrays: Payload) -> Payload:
    """Claim a million times as many rows."""
    return {n: array * 1e6 if n in COUNTS else array for n, array in arrays.items()}


TAMPERS: Final[Mapping[str, Tamper]] = {
    "NaN": spoil,
    "hundredfold": blow_up,
    "sign flip": turn_round,
    "boasting": boast,
}


@dataclass(frozen=True, slots=True)
class Tampering:
    """Rewrites a node's replies to training messages; a `Fault` of the in-process grid."""

    tamper: Tamper

    def __call__(self, instruction: Message, reply: Message) -> Message | None:
        """Let through what is no training."""
        if not reply.has_content() or ARRAYS not in reply.content.array_records:
            return reply
        if not instruction.metadata.message_type.startswith("train"):
            return reply
        sent = strip_prefix(WEIGHTS, Instruction.from_content(instruction.content).sent)
        record = reply.content.array_records[ARRAYS]
        arrays = {name: array.numpy() for name, array in record.items()}
        changed = self.tamper(sent, arrays)
        reply.content[ARRAYS] = ArrayRecord(
            {n: Array(np.asarray(a, arrays[n].dtype)) for n, a in changed.items()}
        )
        return reply


def faults_of(tamper: Tamper, n_attackers: int) -> dict[int, Fault]:
    """Let the first nodes attack."""
    return {node: Tampering(tamper) for node in range(1, n_attackers + 1)}
