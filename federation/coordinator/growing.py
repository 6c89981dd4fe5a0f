"""A router that was published, and how a session starts from it."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from federation.coordinator.strategies import Progress
from federation.errors import GrowthRefused
from federation.exchanges.joining import begin
from federation.protocol.joining import Growth
from federation.protocol.protocol import TrainingPlan
from router_models.artifacts.router import Router
from router_models.errors import InvalidRegistry
from router_models.estimators.guard import GuardedEstimator


@dataclass(frozen=True, slots=True, eq=False)
class Parent:
    """A router that something is to join.

    Attributes:
        router: As it was published.
        sites: Names of those whose rows it was made of.
    """

    router: Router
    sites: Collection[str]

    def plan(self, plan: TrainingPlan, allowed: tuple[str, ...]) -> TrainingPlan:
        """Turn the plan of a whole training into one of what is `allowed` to join.

        Raises:
            GrowthRefused: Nothing can join this router under such a plan.
        """
        router = self.router
        if router.estimator.kind != plan.kind:
            raise GrowthRefused(
                f"router {router.version} is a {router.estimator.kind} one, this coordinator "
                f"trains {plan.kind}: run a whole training"
            )
        try:
            plan.registry.restricted_to(router.estimator.models)
            growth = Growth(router.version, router.estimator.models, allowed)
            has_guard = plan.has_guard and isinstance(router.serving_estimator, GuardedEstimator)
            return replace(plan, growth=growth, has_guard=has_guard)
        except (InvalidRegistry, ValueError) as error:
            raise GrowthRefused(
                f"models or sites cannot join router {router.version}: {error}"
            ) from error

    def progress(self) -> Progress:
        """Say where the session begins."""
        return Progress(state=begin(self.router.serving_estimator), sites=frozenset(self.sites))
