"""A curve from predicted quality to calibrated quality, the same for all models."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from router_models.errors import ArtifactRejected
from router_models.types import Float32, Float64

EDGE: Final = 1e-3
"""Keeps the odds of qualities of 0 and 1 finite."""

STEEPEST: Final = 10.0

KNOTS: Final[Float64] = np.linspace(0.0, 1.0, 65)
"""Where the curve is computed; in between it is straight. So it takes 1.3 µs and not 5."""


def logit(quality: Float32 | Float64) -> Float64:
    """Log of the odds of each quality from 0 to 1, which may be 0 or 1."""
    exact = quality.astype(np.float64)
    odds: Float64 = np.log(exact + EDGE) - np.log(1.0 + EDGE - exact)
    return odds


@dataclass(frozen=True, slots=True)
class Calibration:
    """Multiplies the logit of every quality and adds to it: Platt scaling.

    The curve rises, so no two models change places on any query. What changes is how much better
    the one is said to be than the other.

    Attributes:
        shift: What is added.
        slope: What is multiplied by, above 0; above 1 where predictions are too timid.
        curve: What the qualities at `KNOTS` become; None where that is what they are.
    """

    shift: float = 0.0
    slope: float = 1.0
    curve: Float64 | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute the curve.

        Raises:
            ArtifactRejected: The curve would fall, or be too steep to tell qualities apart.
        """
        if not (0.0 < self.slope <= STEEPEST and abs(self.shift) <= STEEPEST):
            raise ArtifactRejected("a calibration needs a slope above 0, and neither above 10")
        is_plain = (self.shift, self.slope) == (0.0, 1.0)
        odds = self.shift + self.slope * logit(KNOTS)
        object.__setattr__(self, "curve", None if is_plain else 1.0 / (1.0 + np.exp(-odds)))

    def apply(self, quality: Float32) -> Float32:
        """Calibrate qualities from 0 to 1, of any shape."""
        if self.curve is None:
            return quality
        calibrated: Float32 = np.interp(quality, KNOTS, self.curve).astype(np.float32)
        return calibrated


PLAIN: Final = Calibration()
"""Leaves qualities as they are."""
