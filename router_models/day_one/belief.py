"""What is believed of one new model, and how its graded answers change that."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

LEAST_INFORMATION = 0.02
"""Of one answer: what is all but sure to be right or wrong says little, and not nothing."""

LARGEST_ITEM_VARIANCE = 4.0

MOST_STEPS = 25
SETTLED = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """Prompts as a new model meets them.

    Attributes:
        base: Logit that a model at the origin has; shape ``(n,)``.
        design: What multiplies a model's numbers; shape ``(n, width)``.
        covariance: How uncertain difficulty and discriminations are; ``(n, 1 + axes, 1 + axes)``.
    """

    base: Float64
    design: Float64
    covariance: Float64

    def __len__(self) -> int:
        return len(self.base)

    def take(self, places: NDArray[np.intp]) -> "Items":
        """Return the prompts at `places`, in that order."""
        return Items(self.base[places], self.design[places], self.covariance[places])

    def noise(self, mean: Float64) -> tuple[Float64, Float64]:
        """Probability of a right answer, and the variance of a logit read from one answer."""
        probability = sigmoid(self.base + self.design @ mean)
        information = np.maximum(probability * (1.0 - probability), LEAST_INFORMATION)
        axes = self.covariance.shape[1] - 1
        place = np.concatenate([[1.0], mean[:axes]])
        doubt = np.einsum("i,nij,j->n", place, self.covariance, place)
        return probability, 1.0 / information + np.minimum(doubt, LARGEST_ITEM_VARIANCE)


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """A normal distribution over a model's numbers.

    Attributes:
        mean: Shape ``(width,)``.
        covariance: Shape ``(width, width)``.
    """

    mean: Float64
    covariance: Float64

    def update(self, items: Items, score: Float64) -> "Belief":
        """Learn from answers to `items`: Laplace's approximation around its own mode.

        Args:
            items: The prompts that were answered.
            score: Of each answer, in [0, 1].
        """
        if not len(items):
            return self
        mean, covariance = self.mean, self.covariance
        for _ in range(MOST_STEPS):
            probability, noise = items.noise(mean)
            information = np.maximum(probability * (1.0 - probability), LEAST_INFORMATION)
            logit = items.design @ mean + (score - probability) / information
            new, covariance = self._condition(items.design, logit, noise)
            step = new - mean
            # Half steps: a full Newton step can swing between two sides of a steep item.
            mean = mean + 0.5 * step
            if np.abs(step).max() < SETTLED:
                break
        return Belief(mean, covariance)

    def _condition(
        self, design: Float64, logit: Float64, noise: Float64
    ) -> tuple[Float64, Float64]:
        """Mean and covariance given logits read with `noise`."""
        spread = self.covariance @ design.T
        inner = design @ spread + np.diag(noise)
        gain = np.linalg.solve(inner, spread.T).T
        mean = self.mean + gain @ (logit - design @ self.mean)
        return mean, self.covariance - gain @ spread.T


def sigmoid(logit: Float64) -> Float64:
    """The logistic function, for any size of logit."""
    probability: Float64 = 0.5 * (1.0 + np.tanh(0.5 * logit))
    return probability
