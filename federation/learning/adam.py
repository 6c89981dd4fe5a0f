"""Adam at the coordinator: clients' mean gradient goes in, the next common weights come out.

FedAdam, arXiv 2003.00295, with one local step: what averages over clients is a gradient at common
weights, so clients of unlike rows cannot drift apart within a round.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from router_models.types import Arrays, Float32

MEAN_DECAY: Final = 0.9
SQUARE_DECAY: Final = 0.999
SMALLEST_DEVIATION: Final = 1e-8

STEPS: Final = "steps"
MEAN: Final = "mean."
SQUARE: Final = "square."


def adamw_step(
    weights: Mapping[str, Float32],
    gradient: Arrays,
    moments: Arrays,
    learning_rate: float,
    weight_decay: float,
) -> tuple[dict[str, Float32], dict[str, NDArray[Any]]]:
    """Take one step of AdamW; arXiv 1711.05101.

    Args:
        weights: Before the step.
        gradient: Of the loss, shaped as they are. Where it was always 0 nothing moves but by decay.
        moments: As the step before returned them; nothing before the first.
        learning_rate: Most that a weight moves, about.
        weight_decay: Share of a weight that is lost, times `learning_rate`.

    Returns:
        The next weights, and the next moments.
    """
    steps = float(moments[STEPS][0]) + 1.0 if moments else 1.0
    after: dict[str, Float32] = {}
    kept: dict[str, NDArray[Any]] = {STEPS: np.array([steps])}
    for name, array in weights.items():
        slope = np.asarray(gradient[name], np.float64)
        mean = MEAN_DECAY * moments.get(MEAN + name, 0.0) + (1.0 - MEAN_DECAY) * slope
        square = SQUARE_DECAY * moments.get(SQUARE + name, 0.0) + (1.0 - SQUARE_DECAY) * slope**2
        deviation = np.sqrt(square / (1.0 - SQUARE_DECAY**steps)) + SMALLEST_DEVIATION
        step = mean / (1.0 - MEAN_DECAY**steps) / deviation
        after[name] = (array - learning_rate * (step + weight_decay * array)).astype(np.float32)
        kept |= {MEAN + name: mean, SQUARE + name: square}
    return after, kept
