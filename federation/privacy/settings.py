"""A plan's settings of clipping and noise; public, and computed from no row."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from federation.errors import PlanRefused
from federation.privacy.accounting import Release


@dataclass(frozen=True, slots=True)
class NoiseSettings:
    """How every query is clipped, and how much noise goes on top.

    Attributes:
        noise_multiplier: Deviation of the noise over the most that one query can change; see
            `federation.privacy.accounting.noise_multiplier_for`.
        dearest_usd: Per model: calls count as no dearer. From list prices, never from a log. One
            figure for all models would drown the cheap ones.
        longest_vector: Vectors of queries are shortened to it; a property of the encoder.
        sampling_rate: Chance of a query to be in a gradient.
        longest_gradient: To which each query's own gradient is shortened.
    """

    noise_multiplier: float
    dearest_usd: Mapping[str, float] = field(default_factory=dict)
    longest_vector: float = 2.0
    sampling_rate: float = 0.2
    longest_gradient: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what hides nothing.

        Raises:
            ValueError: A value is out of range.
        """
        positive = (self.noise_multiplier, self.longest_vector, self.longest_gradient)
        if min(*positive, *self.dearest_usd.values()) <= 0:
            raise ValueError("noise_multiplier, longest_* and dearest_usd must be above 0")
        if not 0 < self.sampling_rate <= 1:
            raise ValueError("sampling_rate must be above 0 and at most 1")

    def cost_bounds_usd(self, columns: tuple[str, ...]) -> NDArray[np.float64]:
        """Dearest call per model; shape ``(n_models,)``.

        Raises:
            PlanRefused: A model has none.
        """
        missing = [model for model in columns if model not in self.dearest_usd]
        if missing:
            raise PlanRefused(f"dearest_usd_by_model lacks {', '.join(missing)}")
        return np.array([self.dearest_usd[model] for model in columns])

    def sums(self) -> Release:
        """Say what one message of sums costs in privacy."""
        return Release(self.noise_multiplier)

    def gradient(self) -> Release:
        """Say what one noisy gradient costs in privacy."""
        return Release(self.noise_multiplier, self.sampling_rate)
