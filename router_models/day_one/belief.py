"""What is believed of one new model, and how its graded answers change that."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

LEAST_INFORMATION = 0.02
"""Of one answer: what is all but sure to be right or wrong says little, and not nothing."""

LARGEST_ITEM_VARIANCE = 4.0

ROUNDS = 2
"""How steep a prompt's curve is depends a little on the model's place; twice is enough."""
MOST_STEPS = 20
SMALLEST_STEP = 1e-3
SETTLED = 1e-3
"""Of the log posterior."""


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

    def steepness(self, mean: Float64) -> Float64:
        """How much flatter each prompt's curve is for not being known exactly; shape ``(n,)``."""
        place = np.concatenate([[1.0], mean[: self.covariance.shape[1] - 1]])
        doubt = np.einsum("i,nij,j->n", place, self.covariance, place)
        flat: Float64 = np.minimum(doubt, LARGEST_ITEM_VARIANCE)
        return 1.0 / np.sqrt(1.0 + np.pi / 8.0 * flat)

    def noise(self, mean: Float64) -> Float64:
        """Variance of a logit that is read from one answer; shape ``(n,)``."""
        steepness = self.steepness(mean)
        return 1.0 / _information(steepness, steepness * (self.base + self.design @ mean))


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """A normal distribution over a model's numbers.

    Attributes:
        mean: Shape ``(width,)``.
        covariance: Shape ``(width, width)``.
    """

    mean: Float64
    covariance: Float64

    def update(self, items: Items, score: Float64, weight: Float64 | None = None) -> "Belief":
        """Learn from answers to `items`: Laplace's approximation around its own mode.

        Args:
            items: The prompts that were answered.
            score: Of each answer, in [0, 1].
            weight: How many answers each counts for; by default one.
        """
        if not len(items):
            return self
        precision = np.asarray(np.linalg.inv(self.covariance), np.float64)
        mean = self.mean
        curvature = precision
        weight = np.ones(len(items)) if weight is None else weight
        for _ in range(ROUNDS):
            curves = _Curves(items, score, weight, items.steepness(mean))
            mean, curvature = self._mode(curves, precision, mean)
        return Belief(mean, np.asarray(np.linalg.inv(curvature), np.float64))

    def _mode(
        self, curves: "_Curves", precision: Float64, mean: Float64
    ) -> tuple[Float64, Float64]:
        """Find the likeliest numbers by Newton's method, and the curvature there.

        Steps are halved until they gain: of a model far from the known ones, a full step leads
        further away than it started.
        """

        def loss(place: Float64) -> float:
            apart = place - self.mean
            return curves.misses(place) + float(0.5 * apart @ precision @ apart)

        curvature, now = precision, loss(mean)
        for _ in range(MOST_STEPS):
            slope, told = curves.slope_and_information(mean)
            curvature = precision + told
            step = np.linalg.solve(curvature, slope - precision @ (mean - self.mean))
            size = 1.0
            while size > SMALLEST_STEP and loss(mean + size * step) > now:
                size /= 2.0
            mean = mean + size * step
            before, now = now, loss(mean)
            if before - now < SETTLED:
                break
        return mean, curvature


@dataclass(frozen=True, slots=True, eq=False)
class _Curves:
    """Answers and what they are expected to be, as a function of a model's numbers."""

    items: Items
    score: Float64
    weight: Float64
    steepness: Float64

    def misses(self, place: Float64) -> float:
        """Negative log likelihood."""
        logit = self._logit(place)
        return float(self.weight @ (np.logaddexp(0.0, logit) - self.score * logit))

    def slope_and_information(self, place: Float64) -> tuple[Float64, Float64]:
        """Gradient of the log likelihood, and its expected curvature."""
        logit, design = self._logit(place), self.items.design
        told = self.weight * _information(self.steepness, logit)
        slope = design.T @ (self.weight * self.steepness * (self.score - sigmoid(logit)))
        return slope, design.T @ (design * told[:, None])

    def _logit(self, place: Float64) -> Float64:
        logit: Float64 = self.steepness * (self.items.base + self.items.design @ place)
        return logit


def _information(steepness: Float64, logit: Float64) -> Float64:
    """What one answer tells of the logit that a curve of this steepness is at."""
    probability = sigmoid(logit)
    told: Float64 = np.maximum(probability * (1.0 - probability), LEAST_INFORMATION)
    return steepness**2 * told


def sigmoid(logit: Float64) -> Float64:
    """The logistic function, for any size of logit."""
    probability: Float64 = 0.5 * (1.0 + np.tanh(0.5 * logit))
    return probability
