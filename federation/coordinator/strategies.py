"""The kinds of router as Flower strategies: which exchanges make one, in which order.

One round of Flower's loop is one exchange. What is kept after each is all that a later start needs,
so a coordinator that was killed goes on with the next.
"""

# ruff: noqa: ARG002, ARG003 - Flower decides what strategies are told.

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from federation.coordinator.fleet import ExchangeRequest, Fleet
from federation.coordinator.nodes import require_quorum
from federation.coordinator.secure_rounds import agree_on_keys, collect_masked_total
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
from federation.protocol.protocol import Payload, TrainingPlan, to_record
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

    def judged(self, loss: float) -> "Progress":
        """Remember this round's weights if none did better."""
        judged = replace(self, losses={**self.losses, self.round: loss})
        if not loss < self.losses.get(self.best_round, math.inf):
            return judged
        best = {name: array for name, array in self.state.items() if name.startswith(WEIGHTS)}
        return replace(judged, best=best, best_round=self.round)

    def final_state(self) -> Payload:
        """Return the state with the best weights instead of the latest."""
        return {**self.state, **self.best}


class RouterStrategy(Strategy):
    """Runs the exchanges that make one kind of router.

    Args:
        fleet: Whom to ask.
        progress: Where to go on; a new one begins at the beginning.
        keep: Called after each round with what it takes to go on from there.
    """

    def __init__(self, fleet: Fleet, progress: Progress, keep: Callable[[Progress], None]) -> None:
        self.fleet = fleet
        self.progress = progress
        self.keep = keep
        plan = fleet.plan
        self.exchanges = (*self.plan_exchanges(plan), *self.guard_exchanges(plan))
        self._request: ExchangeRequest | None = None

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
            QuorumMissing: Too few sites answered well in some round.
        """
        left = len(self.exchanges) - self.progress.round
        if left:
            initial = to_record(self.progress.state)
            self.start(self.fleet.grid, initial, left, self.fleet.plan.timeout_s)
        return self.finish(self.fleet.plan, self.progress.final_state())

    def configure_train(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,
    ) -> Iterable[Message]:
        """Ask the next exchange's question, of nodes that joined since the last one too."""
        self.fleet.admit_new_nodes()
        progress = self.progress
        return self._ask(self.exchanges[progress.round], progress.round + 1)

    def aggregate_train(
        self,
        server_round: int,
        replies: Iterable[Message],
    ) -> tuple[ArrayRecord, MetricRecord]:
        """Let the good answers count.

        Raises:
            QuorumMissing: There are too few.
            ReplyRejected: The total of masked answers is not usable.
        """
        request, good = self._collect(replies)
        selected = frozenset(site.name for site in request.selected.values())
        sites = selected if request.is_masked else frozenset(reply.site for reply in good)
        require_quorum(self.fleet.plan, len(sites), self.fleet.report)
        exchange, instruction, progress = request.exchange, request.instruction, self.progress
        state = exchange.aggregate(progress.state, instruction, good)
        learned = sites if exchange.is_learned else frozenset()
        self.progress = replace(
            progress, round=instruction.round, state=state, sites=progress.sites | learned
        )
        return to_record(state), MetricRecord({"sites": len(sites)})

    def configure_evaluate(
        self,
        server_round: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        grid: Grid,
    ) -> Iterable[Message]:
        """Ask how good the new state is, where that can be asked."""
        assert self._request is not None  # noqa: S101
        validation = self._request.exchange.validation
        self._request = None
        if validation is None:
            return []
        try:
            return self._ask(validation, self.progress.round)
        except QuorumMissing:
            return []

    def aggregate_evaluate(
        self,
        server_round: int,
        replies: Iterable[Message],
    ) -> MetricRecord | None:
        """Remember the best round, and keep what it takes to go on from here.

        A validation that nobody answers is no reason to stop.
        """
        metrics = None
        if self._request is not None:
            loss = self._measured_loss(replies)
            if math.isfinite(loss):
                self.progress = self.progress.judged(loss)
                metrics = MetricRecord({"loss": loss})
        self.keep(self.progress)
        return metrics

    def summary(self) -> None:
        """Say nothing: the session's report says it all."""

    def _ask(self, exchange: Exchange, round_: int) -> list[Message]:
        request = self.fleet.build_request(exchange, round_, self.progress.state)
        self._request = agree_on_keys(self.fleet, request) if request.is_masked else request
        return self.fleet.to_messages(self._request)

    def _collect(self, replies: Iterable[Message]) -> tuple[ExchangeRequest, list[Reply]]:
        """Read the answers to the question; of masked ones the total, as the only answer."""
        request = self._request
        assert request is not None  # noqa: S101
        if not request.is_masked:
            return request, self.fleet.collect_replies(request, replies)
        self._request, total = collect_masked_total(self.fleet, request, replies)
        return self._request, [total]

    def _measured_loss(self, replies: Iterable[Message]) -> float:
        try:
            request, good = self._collect(replies)
        except (QuorumMissing, ReplyRejected):
            return math.nan
        return float(request.exchange.aggregate({}, request.instruction, good)[LOSS][0])


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
