"""The first exchange where models or sites join a published router, and its initial state."""

from collections.abc import Sequence
from typing import Final

from federation.exchanges.kmeans import CENTROIDS
from federation.exchanges.mlp import TEACHER, WEIGHTS
from federation.exchanges.rows import SCALES, RowSumExchange, scales_of
from federation.learning import growth
from federation.protocol.joining import MODELS_JOIN
from federation.protocol.protocol import Instruction, Payload, TrainingPlan
from federation.protocol.updates import Reply
from router_models.estimators.arrays import add_prefix
from router_models.estimators.guard import Guard, GuardedEstimator
from router_models.estimators.kmeans import KMeansEstimator
from router_models.estimators.mlp import MlpEstimator
from router_models.estimators.nesting import pack, unpack
from router_models.types import Estimator

PARENT = "parent."
"""Arrays of the router that grows; kept with the state, sent to nobody as they are."""

GROWING: Final[tuple[type[Estimator], ...]] = (KMeansEstimator, MlpEstimator, GuardedEstimator)
"""Kinds of router that something can join."""


class JoiningRowExchange(RowSumExchange):
    """Row sums of what joins; they set the scale of costs, the router that of features."""

    def aggregate(
        self, state: Payload, instruction: Instruction, replies: Sequence[Reply]
    ) -> Payload:
        """Add up, and lay out what is learned from here."""
        state = super().aggregate(state, instruction, replies)
        plan = instruction.plan
        measured = scales_of(plan, state)
        router, _ = parent_of(plan, state)
        if isinstance(router, KMeansEstimator):
            scales = growth.scales_of_new_models(router, measured)
            begun: Payload = {CENTROIDS: router.centroids}
        elif plan.joining == MODELS_JOIN:
            scales = growth.scales_of_new_models(router, measured)
            begun = add_prefix(WEIGHTS, growth.new_heads(router, scales))
        else:
            scales = growth.scales_of_new_clients(router, measured)
            weights = growth.weights_of(router)
            begun = {**add_prefix(WEIGHTS, weights), **add_prefix(TEACHER, weights)}
        return {**state, **add_prefix(SCALES, scales.to_arrays()), **begun}


def begin(router: Estimator) -> Payload:
    """Return what a session's state holds before its first round, where a router grows."""
    return pack(PARENT, router)


def parent_of(
    plan: TrainingPlan, state: Payload
) -> tuple[KMeansEstimator | MlpEstimator, Guard | None]:
    """Read the router that grows, and its guard if it has one, out of a session's state."""
    assert plan.growth is not None  # noqa: S101
    served = unpack(PARENT, plan.growth.models, state, GROWING)
    guard = served.guard if isinstance(served, GuardedEstimator) else None
    router = served.estimator if isinstance(served, GuardedEstimator) else served
    assert isinstance(router, KMeansEstimator | MlpEstimator)  # noqa: S101
    return router, guard
