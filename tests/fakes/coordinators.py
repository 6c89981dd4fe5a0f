"""A coordinator that sends what it likes to a node, and what it may send to read single rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from benchmarks.federation_simulation.in_process import InProcessGrid
from federation.exchanges.kmeans import CENTROIDS
from federation.learning.settings import FederatedMlpSettings
from federation.node.client_app import build_client_app
from federation.node.gateway_site import GatewaySite
from federation.protocol.protocol import (
    ARRAYS,
    Instruction,
    Payload,
    TrainingPlan,
    from_record,
    read_refusal,
)
from tests.fakes.evaluations import DIMENSION, MODELS
from tests.fakes.sites import plan_of

COLUMNS = tuple(sorted(MODELS))
PLAN = plan_of(columns=COLUMNS)
TRAPPING = plan_of(
    "mlp", columns=COLUMNS, settings=FederatedMlpSettings(hidden=2, dropout=0.0), largest_share=1.0
)

FACTOR = 2.0
"""Of the features, which are cut at 8."""

SHARPNESS = 2.0
"""Of a trap: how fast its units' difference grows with a row's distance from the plane."""

LEAST_GRADIENT = 1e-7

Vector = NDArray[np.float64]


class Coordinator:
    """Sends what it likes to a node, and reads what comes back."""

    def __init__(self, site: GatewaySite, **protections: Any) -> None:
        self.app = build_client_app(site, **protections)

    def ask(self, name: str, plan: TrainingPlan, **sent: np.ndarray) -> Message:
        """Send one message; names of arrays have two underscores where a dot belongs."""
        instruction = Instruction(plan, 1, {n.replace("__", "."): a for n, a in sent.items()})
        grid = InProcessGrid({1: self.app})
        (reply,) = grid.send_and_receive([Message(instruction.to_content(), 1, name)])
        return reply

    def told(self, name: str, plan: TrainingPlan = PLAN, **sent: np.ndarray) -> Payload:
        """Return what an answer says; it must not be a refusal."""
        reply = self.ask(name, plan, **sent)
        assert read_refusal(reply) is None
        return from_record(reply.content.array_records[ARRAYS])

    def cells(self, centroids: np.ndarray, plan: TrainingPlan = PLAN) -> Payload:
        """Ask about the rows nearest to each centroid."""
        return self.told("train.cells", plan, **about(centroids))


def about(centroids: np.ndarray) -> dict[str, np.ndarray]:
    """What comes with a question about cells: a scale of features that changes nothing."""
    return {**scales(), CENTROIDS: centroids.astype(np.float32)}


def scales() -> dict[str, np.ndarray]:
    """Scale nothing."""
    arrays = {
        "shift": np.zeros(DIMENSION),
        "factor": np.ones(DIMENSION),
        "cost_scale": np.ones((2, len(COLUMNS))),
        "cost_floor_usd": np.zeros(len(COLUMNS)),
        "quality_means": np.zeros(len(COLUMNS)),
        "cost_means_usd": np.zeros(len(COLUMNS)),
    }
    return {f"scales__{name}": array.astype(np.float32) for name, array in arrays.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Trap:
    """Weights of two hidden units that respond to the rows nearest to a plane, and to no others.

    Of two units, a layer norm leaves the sign of their difference, unless that is next to 0. So
    only rows next to the plane have a gradient. Of one row, the gradient of the weights is its
    vector times the gradient of the bias (Fowl et al. 2021, arXiv 2110.13057); and two biases of
    its model's head give two gradients, whose ratio tells its quality.

    Attributes:
        normal: Of the plane.
        offset: Of the plane.
        model: Whose rows are looked for.
    """

    normal: Vector
    offset: float
    model: int
    biases: Sequence[float] = (-1.0, 1.0)

    def read(self, coordinator: Coordinator) -> tuple[Vector, float] | None:
        """Return the vector and the quality of what was caught; None where nothing was."""
        gradients = [self._gradient(coordinator, bias) for bias in self.biases]
        if min(abs(of_bias) for _, of_bias in gradients) < LEAST_GRADIENT:
            return None
        of_weights, of_bias = gradients[0]
        vector = self.offset * self.normal + of_weights / of_bias / FACTOR
        return vector, self._quality(of_bias / gradients[1][1])

    def _quality(self, ratio: float) -> float:
        """Solve for the quality: each gradient has (sigmoid(bias) - quality) as a factor."""
        first, second = (1.0 / (1.0 + np.exp(-bias)) for bias in self.biases)
        slopes = first * (1.0 - first), second * (1.0 - second)
        scaled = ratio * slopes[1] / slopes[0]
        return float((first - scaled * second) / (1.0 - scaled))

    def _gradient(self, coordinator: Coordinator, bias: float) -> tuple[Vector, float]:
        weights = self._weights(bias)
        sent = {f"weights__{name.replace('.', '__')}": array for name, array in weights.items()}
        scaled = {
            **scales(),
            "scales__shift": (self.offset * self.normal).astype(np.float32),
            "scales__factor": np.full(DIMENSION, FACTOR, np.float32),
        }
        told = coordinator.told("train.weights", TRAPPING, **scaled, **sent)
        moved = {name: array - told[name] for name, array in weights.items()}
        return moved["trunk.0.weight"][:, 0].astype(float), float(moved["trunk.0.bias"][0])

    def _weights(self, bias: float) -> dict[str, np.ndarray]:
        head_weight, head_bias = np.zeros((2, 2 * len(COLUMNS))), np.zeros(2 * len(COLUMNS))
        head_weight[:, self.model] = 1e-2, -1e-2
        head_bias[self.model] = bias
        arrays = {
            "trunk.0.weight": np.stack([self.normal, -self.normal], axis=1) * SHARPNESS / FACTOR,
            "trunk.0.bias": np.zeros(2),
            # What follows is nearly linear, so that a gradient passes: GELU far above 0.
            "trunk.0.gain": np.full(2, 0.003),
            "trunk.0.offset": np.full(2, 5.0),
            "trunk.1.weight": np.eye(2),
            "trunk.1.bias": np.zeros(2),
            "trunk.1.gain": np.ones(2),
            "trunk.1.offset": np.full(2, 5.0),
            "head_weight": head_weight,
            "head_bias": head_bias,
        }
        return {name: array.astype(np.float32) for name, array in arrays.items()}


def caught(site: GatewaySite, model: str, towards: Vector, n_planes: int) -> list[Any]:
    """Move a trap along a direction, through all rows of a model."""
    coordinator, normal = Coordinator(site), towards / np.linalg.norm(towards)
    column = COLUMNS.index(model)
    traps = (Trap(normal, offset, column) for offset in np.linspace(-1.5, 1.5, n_planes))
    return [found for trap in traps if (found := trap.read(coordinator)) is not None]
