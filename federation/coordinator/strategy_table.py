"""The strategies by kind of router, and the calibration of a plan's noise."""

from dataclasses import replace
from typing import Final

from federation.coordinator.growing_strategies import GrowingKMeans, GrowingMlp
from federation.coordinator.strategies import (
    FederatedKMeans,
    FederatedMlp,
    FederatedRidge,
    RouterStrategy,
)
from federation.privacy.accounting import noise_multiplier_for
from federation.protocol.protocol import TrainingPlan

STRATEGIES: Final[dict[str, type[RouterStrategy]]] = {
    "kmeans": FederatedKMeans,
    "mlp": FederatedMlp,
    "ridge": FederatedRidge,
}
"""By kind; each begins anew."""

GROWING: Final[dict[str, type[RouterStrategy]]] = {"kmeans": GrowingKMeans, "mlp": GrowingMlp}
"""By kind; each starts from a router that is there."""


def strategy_of(plan: TrainingPlan) -> type[RouterStrategy]:
    """Choose the strategy."""
    return (STRATEGIES if plan.growth is None else GROWING)[plan.kind]


def with_calibrated_noise(plan: TrainingPlan, epsilon: float, delta: float) -> TrainingPlan:
    """Set the plan's noise so that one session costs each site no more than `epsilon`.

    Raises:
        ValueError: The plan has no noise to set, or `epsilon` or `delta` mean nothing.
    """
    if plan.noise is None:
        raise ValueError("a plan without noise cannot be calibrated")
    exchanges = strategy_of(plan).plan_exchanges(plan)
    releases = [exchange.release(plan) for exchange in exchanges]
    multiplier = noise_multiplier_for(epsilon, delta, releases)
    return replace(plan, noise=replace(plan.noise, noise_multiplier=multiplier))
