"""Along which axes known models differ, and how far a model that is left out lies on them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from router_models.day_one.belief import Float64

MOST_AXES: Final = 2
MODELS_PER_AXIS: Final = 4
LEAST_KNOWN: Final = 3
"""Models that axes can be found from; below, models differ in one ability alone."""

FIT_PENALTY: Final = 1e-2
LEAST_AXIS_VARIANCE, LEAST_OFFSET_VARIANCE = 0.5, 0.02


FAMILIES: Final = (
    "chatgpt", "claude", "command", "deepseek", "gemini", "gemma", "gpt", "grok", "jamba", "kimi",
    "llama", "mathstral", "mistral", "mixtral", "nemotron", "nova", "phi", "qwen", "reka", "yi",
)  # fmt: skip
"""Names of models hold one of these; the first that is found counts."""

BY_PRICE_AND_FAMILY: Final = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.4), (0.4, 0.3))
"""Shares of ability's variance that price and family may explain."""

LEAST_BY_PRICE: Final = 8
"""Known models from which on price and family are looked at: with fewer they misled."""

LEAST_GAIN: Final = 0.9
"""They must lower the squared error of leaving one out to this share."""


@dataclass(frozen=True, slots=True, eq=False)
class AbilityPrior:
    """How able a model is by its list price and its family: a Gaussian process over known models.

    Attributes:
        log_price: Of the known models, USD per million completion tokens.
        names: Of the known models; their families are read from these.
        ability: Of the known models; mean 0, deviation 1.
        shares: What price and family explain of its variance; the rest is noise.
    """

    log_price: Float64
    names: tuple[str, ...]
    ability: Float64
    shares: tuple[float, float]

    @classmethod
    def fit(cls, names: tuple[str, ...], price: Float64, ability: Float64) -> "AbilityPrior":
        """Choose the shares by leaving each known model out."""
        log_price = np.log(np.maximum(price, 1e-3))
        if len(names) < LEAST_BY_PRICE:
            return cls(log_price, names, ability, BY_PRICE_AND_FAMILY[0])
        errors = [
            cls(log_price, names, ability, one).error_left_out() for one in BY_PRICE_AND_FAMILY
        ]
        best = int(np.argmin(errors))
        is_better = errors[best] < LEAST_GAIN * errors[0]
        return cls(log_price, names, ability, BY_PRICE_AND_FAMILY[best if is_better else 0])

    def predict(self, name: str, price: float) -> tuple[float, float]:
        """Expected ability, and what is left of its variance."""
        if self.shares == BY_PRICE_AND_FAMILY[0]:
            return 0.0, 1.0
        log_price = np.append(self.log_price, np.log(max(price, 1e-3)))
        kernel = self._kernel(log_price, (*self.names, name))
        inner, across = kernel[:-1, :-1] + self._noise() * np.eye(len(self.names)), kernel[-1, :-1]
        weights = np.linalg.solve(inner, across)
        left = kernel[-1, -1] + self._noise() - weights @ across
        return float(weights @ self.ability), float(left)

    def error_left_out(self) -> float:
        """Mean squared error of each known model's ability, predicted from the others'."""
        kernel = self._kernel(self.log_price, self.names) + self._noise() * np.eye(len(self.names))
        inverse = np.linalg.inv(kernel)
        return float(np.mean((inverse @ self.ability / np.diag(inverse)) ** 2))

    def _noise(self) -> float:
        return 1.0 - sum(self.shares)

    def _kernel(self, log_price: Float64, names: Sequence[str]) -> Float64:
        known = log_price[: len(self.names)]
        price = (log_price - known.mean()) / max(float(known.std()), 1e-9)
        # As far beyond the known prices as a deviation, no further.
        price = np.clip(price, price[: len(known)].min() - 1.0, price[: len(known)].max() + 1.0)
        families = np.array([family(name) for name in names])
        same = (families[:, None] == families) & (families != "")
        kernel: Float64 = self.shares[0] * np.outer(price, price) + self.shares[1] * same
        return kernel


def family(name: str) -> str:
    """Read a model's family from its name; empty where it is unknown."""
    found = re.search("|".join(FAMILIES), name.lower())
    return found[0] if found else ""


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """How far a new model may lie from the known ones, by leaving out each known model.

    Attributes:
        axes: Variance of its place on each axis; shape ``(n_axes,)``.
        offset: Variance of its constant.
        residual: Variance of what axes and offset do not explain: how little profiles transfer.
    """

    axes: Float64
    offset: float
    residual: float


def places_of(logits: Float64, mean_score: Float64) -> Float64:
    """Place known models: 1, their ability, then the directions in which they differ most.

    Args:
        logits: Of their scores by text; shape ``(n, n_known)``.
        mean_score: Of each; shape ``(n_known,)``.

    Returns:
        Shape ``(n_known, 1 + n_axes)``; each axis has mean 0 and deviation 1.
    """
    ability = _standardised(np.log(mean_score / (1.0 - mean_score)))
    places = np.stack([np.ones_like(ability), ability], axis=1)
    count = min(MOST_AXES, len(ability) // MODELS_PER_AXIS)
    if count:
        apart = logits - logits @ np.linalg.pinv(places).T @ places.T
        directions = np.linalg.eigh(apart.T @ apart)[1][:, ::-1][:, :count]
        places = np.concatenate([places, _standardised(directions)], axis=1)
    return places


def leave_out_each(logits: Float64, mean_score: Float64) -> Spread:
    """Leave out each known model and fit its logits on the axes of the others."""
    count = logits.shape[1]
    if count < LEAST_KNOWN + 1:
        variance = float(logits.var())
        return Spread(np.ones(places_of(logits, mean_score).shape[1] - 1), 1.0, variance)
    found = [_leave_out(logits, mean_score, one) for one in range(count)]
    width = places_of(logits, mean_score).shape[1] - 1
    # The others may be too few for as many axes as all of them have.
    axes = np.zeros(width)
    for axis in range(width):
        squares = [place[axis] ** 2 for place, _, _ in found if len(place) > axis]
        axes[axis] = max(np.mean(squares) if squares else 0.0, LEAST_AXIS_VARIANCE)
    offset = max(float(np.mean([constant**2 for _, constant, _ in found])), LEAST_OFFSET_VARIANCE)
    return Spread(axes, offset, float(np.mean([residual for _, _, residual in found])))


def _leave_out(logits: Float64, mean_score: Float64, one: int) -> tuple[Float64, float, float]:
    others = np.delete(logits, one, axis=1)
    places = places_of(others, np.delete(mean_score, one))
    factors = others @ np.linalg.pinv(places).T
    design = np.concatenate([factors[:, 1:], np.ones((len(logits), 1))], axis=1)
    target = logits[:, one] - factors[:, 0]
    gram = design.T @ design / len(design) + FIT_PENALTY * np.eye(design.shape[1])
    numbers = np.linalg.solve(gram, design.T @ target / len(design))
    return numbers[:-1], float(numbers[-1]), float(np.mean((target - design @ numbers) ** 2))


def _standardised(values: Float64) -> Float64:
    deviation = values.std(axis=0)
    safe = np.where(deviation > 1e-9, deviation, 1.0)
    standardised: Float64 = (values - values.mean(axis=0)) / safe
    return standardised
