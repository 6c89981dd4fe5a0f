"""One strategy per kind of router: which exchanges train it, and in which order.

One round is one exchange. The progress that is saved after each round is all that a later start
needs, so a coordinator that was killed continues with the next round.
"""

# ruff: noqa: ARG003 - some strategies need no plan.

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from federation.coordinator.fleet import ExchangeRequest, Fleet
from federation.coordinator.nodes import require_quorum
from federation.coordinator.secure_rounds import aggregate_securely
from federation.errors import QuorumMissing, ReplyRejected
from federation.exchanges.exchange import Exchange
from federation.exchanges.guard import GUARD_EXCHANGES, guard_of
from federation.exchanges.kmeans import (
    CENTROIDS,
    CellExchange,
    CentroidExchange,
    PublicCentroidExchange,
    cells_of,
    scaler_in,
)
from federation.exchanges.kmeans import settings_of as kmeans_settings_of
from federation.exchanges.mlp import (
    LOSS,
    WEIGHTS,
    InitialWeightExchange,
    LossExchange,
    WeightExchange,
)
from federation.exchanges.mlp import settings_of as mlp_settings_of
from federation.exchanges.mlp_sums import LossSumExchange, WeightSumExchange
from federation.exchanges.ridge import GramExchange, gram_of
from federation.exchanges.ridge import settings_of as ridge_settings_of
from federation.exchanges.rows import RowSumExchange, scales_of
from federation.learning import kmeans, mlp, ridge
from federation.protocol.protocol import Payload, TrainingPlan
from federation.protocol.updates import Reply
from router_models.estimators.arrays import strip_prefix
from router_models.estimators.guard import GuardedEstimator
from router_models.types import Estimator


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """How far a session has come: all that it needs to go on from here.

    Attributes:
        round: Finished last; 0 before the first.
        state: Named arrays, as exchanges leave them.
        best: The weights that did best on validation, named as in `state`; empty before any.
        best_round: Whose weights they are; 0 before any.
        losses: Validation loss after each round that measured one.
        sites: Names of those whose rows the router is made of so far.
    """

    round: int = 0
    state: Payload = field(default_factory=dict)
    best: Payload = field(default_factory=dict)
    best_round: int = 0
    losses: Mapping[int, float] = field(default_factory=dict)
    sites: frozenset[str] = frozenset()

    def with_loss(self, loss: float) -> "Progress":
        """Record the validation loss of this round, and its weights if none did better."""
        judged = replace(self, losses={**self.losses, self.round: loss})
        if not loss < self.losses.get(self.best_round, math.inf):
            return judged
        best = {name: array for name, array in self.state.items() if name.startswith(WEIGHTS)}
        return replace(judged, best=best, best_round=self.round)

    def final_state(self) -> Payload:
        """Return the state with the best weights instead of the latest."""
        return {**self.state, **self.best}


class RouterStrategy(ABC):
    """Runs the exchanges that train one kind of router.

    Args:
        fleet: The sites.
        progress: Where to continue; a new one starts with the first round.
        save: Called with the progress after each round.
    """

    def __init__(self, fleet: Fleet, progress: Progress, save: Callable[[Progress], None]) -> None:
        self.fleet = fleet
        self.progress = progress
        self.save = save
        plan = fleet.plan
        self.exchanges = (*self.plan_exchanges(plan), *self.guard_exchanges(plan))

    @classmethod
    @abstractmethod
    def plan_exchanges(cls, plan: TrainingPlan) -> tuple[Exchange, ...]:
        """List the exchanges that the estimator takes, one per round."""

    @classmethod
    @abstractmethod
    def build(cls, plan: TrainingPlan, state: Payload) -> Estimator:
        """Put the final state into an estimator that serves."""

    @classmethod
    def guard_exchanges(cls, plan: TrainingPlan) -> tuple[Exchange, ...]:
        """List the exchanges that its guard takes, after those."""
        return GUARD_EXCHANGES if plan.has_guard else ()

    @classmethod
    def finish(cls, plan: TrainingPlan, state: Payload) -> Estimator:
        """Build the estimator, and guard it."""
        estimator = cls.build(plan, state)
        return GuardedEstimator(estimator, guard_of(plan, state)) if plan.has_guard else estimator

    def run(self) -> Estimator:
        """Do the rounds that are left, and build the router.

        Raises:
            QuorumMissing: Too few sites replied well in some round.
            ReplyRejected: The total of masked replies is not usable.
        """
        for exchange in self.exchanges[self.progress.round :]:
            self.fleet.admit_new_nodes()
            self._train(exchange)
            if exchange.validation is not None:
                self._validate(exchange.validation)
            self.save(self.progress)
        return self.finish(self.fleet.plan, self.progress.final_state())

    def _train(self, exchange: Exchange) -> None:
        """Advance the session's state by one round."""
        progress = self.progress
        request, good = self._ask(exchange, progress.round + 1)
        selected = frozenset(site.name for site in request.selected.values())
        sites = selected if request.is_masked else frozenset(reply.site for reply in good)
        require_quorum(self.fleet.plan, len(sites), self.fleet.report)
        state = exchange.aggregate(progress.state, request.instruction, good)
        learned = sites if exchange.is_learned else frozenset()
        self.progress = replace(
            progress, round=progress.round + 1, state=state, sites=progress.sites | learned
        )

    def _validate(self, exchange: Exchange) -> None:
        """Measure the new state, and keep it if it is the best; failing here stops nothing."""
        try:
            request, good = self._ask(exchange, self.progress.round)
        except (QuorumMissing, ReplyRejected):
            return
        loss = float(exchange.aggregate({}, request.instruction, good)[LOSS][0])
        if math.isfinite(loss):
            self.progress = self.progress.with_loss(loss)

    def _ask(self, exchange: Exchange, round_: int) -> tuple[ExchangeRequest, list[Reply]]:
        """Return the request and its valid replies; of masked replies, only their total."""
        request = self.fleet.build_request(exchange, round_, self.progress.state)
        if not request.is_masked:
            return request, self.fleet.send_and_collect(request)
        request, total = aggregate_securely(self.fleet, request)
        return request, [total]


class FederatedKMeans(RouterStrategy):
    """Two passes: sites send centroids, then sums about common ones."""

    @classmethod
    def plan_exchanges(cls, plan: TrainingPlan) -> tuple[Exchange, ...]:
        """Scales, centroids, cells; with noise, centroids that no site had a part in."""
        if plan.noise is not None:
            return (PublicCentroidExchange(), CellExchange())
        return (RowSumExchange(), CentroidExchange(), CellExchange())

    @classmethod
    def build(cls, plan: TrainingPlan, state: Payload) -> Estimator:
        """Put centroids and cells together."""
        scaler, cells = scaler_in(plan, state), cells_of(plan, state)
        settings = kmeans_settings_of(plan)
        return kmeans.to_estimator(plan.columns, scaler, state[CENTROIDS], cells, settings)


class FederatedMlp(RouterStrategy):
    """Federated averaging, with the weights of the best round."""

    @classmethod
    def plan_exchanges(cls, plan: TrainingPlan) -> tuple[Exchange, ...]:
        """Scales and first weights, then as many rounds of training as the settings say."""
        return (InitialWeightExchange(), *cls.training(plan))

    @classmethod
    def training(
        cls, plan: TrainingPlan, exchange: type[Exchange] | None = None
    ) -> tuple[Exchange, ...]:
        """List the rounds of training by `exchange`; by default of all weights."""
        settings = mlp_settings_of(plan)
        train = exchange or (WeightSumExchange if plan.secure_sum else WeightExchange)
        validate: type[Exchange] = LossSumExchange if plan.secure_sum else LossExchange
        # A loss has no noise, so with noise the last round counts, not the best.
        validation = validate() if plan.noise is None else None
        return tuple(
            train(settings.client_share, validation if left % plan.validate_every == 0 else None)
            for left in reversed(range(settings.rounds))
        )

    @classmethod
    def build(cls, plan: TrainingPlan, state: Payload) -> Estimator:
        """Put weights and scales together."""
        return mlp.to_estimator(strip_prefix(WEIGHTS, state), plan.columns, scales_of(plan, state))


class FederatedRidge(RouterStrategy):
    """One pass of sums over the scaled features."""

    @classmethod
    def plan_exchanges(cls, plan: TrainingPlan) -> tuple[Exchange, ...]:
        """Scales, then products."""
        return (RowSumExchange(), GramExchange())

    @classmethod
    def build(cls, plan: TrainingPlan, state: Payload) -> Estimator:
        """Solve the heads."""
        scales, settings = scales_of(plan, state), ridge_settings_of(plan)
        return ridge.to_estimator(plan.columns, scales, gram_of(plan, state), settings)
