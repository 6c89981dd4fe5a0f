"""Strategies by which new models or new sites join a published router; arXiv 2601.22318.

The session's state begins with the router itself. What it knew is not asked for again: columns are
the new models' alone, or only new sites are asked.
"""

from federation.coordinator.strategies import FederatedMlp, RouterStrategy
from federation.exchanges import guard as guards
from federation.exchanges.exchange import Exchange
from federation.exchanges.joining import JoiningRowExchange, parent_of
from federation.exchanges.kmeans import CellExchange, cells_of
from federation.exchanges.mlp import WEIGHTS, HeadExchange
from federation.exchanges.mlp_sums import HeadSumExchange
from federation.exchanges.rows import scales_of
from federation.learning import growth
from federation.protocol.joining import CLIENTS_JOIN, MODELS_JOIN
from federation.protocol.protocol import Payload, TrainingPlan
from router_models.estimators.arrays import strip_prefix
from router_models.estimators.guard import GuardedEstimator
from router_models.estimators.kmeans import KMeansEstimator
from router_models.estimators.mlp import MlpEstimator
from router_models.types import Estimator


class GrowingStrategy(RouterStrategy):
    """Keeps the router's guard: it learns new models' means, and where new sites' rows lie."""

    @classmethod
    def guard_exchanges(cls, plan: TrainingPlan) -> tuple[Exchange, ...]:
        """Ask new sites where their rows lie; what counts as familiar is settled already."""
        if plan.joining == CLIENTS_JOIN and plan.has_guard:
            return (guards.GuardCentroidExchange(), guards.ReachExchange())
        return ()

    @classmethod
    def finish(cls, plan: TrainingPlan, state: Payload) -> Estimator:
        """Build the estimator, and guard it as the router was."""
        estimator = cls.build(plan, state)
        _, guard = parent_of(plan, state)
        if guard is None:
            return estimator
        if plan.joining == MODELS_JOIN:
            guard = growth.widen_guard(guard, scales_of(plan, state))
        elif plan.has_guard:
            guard = growth.extend_guard(guard, state[guards.CENTROIDS], state[guards.REACH])
        return GuardedEstimator(estimator, guard)


class GrowingKMeans(GrowingStrategy):
    """The centroids stay; sums about them are added."""

    @classmethod
    def plan_exchanges(cls, plan: TrainingPlan) -> tuple[Exchange, ...]:  # noqa: ARG003
        """Rows, then cells."""
        return (JoiningRowExchange(), CellExchange())

    @classmethod
    def build(cls, plan: TrainingPlan, state: Payload) -> Estimator:
        """Put new columns beside the router's, or new rows into them."""
        router, _ = parent_of(plan, state)
        assert isinstance(router, KMeansEstimator)  # noqa: S101
        cells = cells_of(plan, state)
        if plan.joining == MODELS_JOIN:
            return growth.add_models(router, plan.columns, cells)
        return growth.add_clients(router, cells)


class GrowingMlp(GrowingStrategy, FederatedMlp):
    """New models get heads on a trunk that stays; new sites teach all of it, held close to it."""

    @classmethod
    def plan_exchanges(cls, plan: TrainingPlan) -> tuple[Exchange, ...]:
        """Rows, then rounds of training."""
        if plan.joining == MODELS_JOIN:
            heads = HeadSumExchange if plan.secure_sum else HeadExchange
            return (JoiningRowExchange(), *cls.training(plan, heads))
        return (JoiningRowExchange(), *cls.training(plan))

    @classmethod
    def build(cls, plan: TrainingPlan, state: Payload) -> Estimator:
        """Put new heads beside the router's, or take the weights that new sites left."""
        if plan.joining == CLIENTS_JOIN:
            return super().build(plan, state)
        router, _ = parent_of(plan, state)
        assert isinstance(router, MlpEstimator)  # noqa: S101
        return growth.join_models(
            router, plan.columns, strip_prefix(WEIGHTS, state), scales_of(plan, state)
        )
