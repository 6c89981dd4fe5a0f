"""One session from the first greeting to the published router."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from flwr.serverapp import Grid

from federation.coordinator import checkpoint
from federation.coordinator.checkpoint import Checkpoints
from federation.coordinator.fleet import Fleet
from federation.coordinator.strategies import Progress
from federation.coordinator.strategy_table import strategy_of
from federation.errors import CheckpointRejected, QuorumMissing
from federation.exchanges.rows import SITES, row_sums_of
from federation.protocol.joining import MODELS_JOIN
from federation.protocol.protocol import TrainingPlan
from federation.protocol.report import SessionReport
from router_models.artifacts.artifact import dump
from router_models.types import Estimator

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class SessionResult:
    """The result of a session.

    Attributes:
        plan: With its columns.
        estimator: With its guard, unless the plan has none.
        artifact: The same, as it was published.
        progress: The final one.
    """

    plan: TrainingPlan
    estimator: Estimator
    artifact: bytes
    progress: Progress
    report: SessionReport


@dataclass(frozen=True, slots=True)
class Session:
    """Runs one session on a grid.

    Attributes:
        checkpoints: Where progress is kept; a session begins with what is there.
        clock: Seconds, for waiting and for durations.
        sleep: Waits that many seconds.
        start: Initial progress without a checkpoint; holds the router, where one grows.
        on_report: Called with the report after every round, and at the end, however it ends.
        sign: Returns the signature that the router is published with; None publishes it without.
    """

    grid: Grid
    plan: TrainingPlan
    checkpoints: Checkpoints
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    start: Progress = field(default_factory=Progress)
    on_report: Callable[[SessionReport], None] = lambda _: None
    sign: Callable[[bytes], bytes | None] = lambda _: None

    def run(self, created_at: datetime) -> SessionResult:
        """Train and publish; an earlier session of the same plan that was cut off goes on.

        Raises:
            QuorumMissing: Too few sites connected, or answered well, in time. The checkpoint stays.
        """
        plan, progress = self._resume()
        fleet = Fleet(self.grid, plan, self.clock, trained_sites=self.start.sites)
        try:
            return self._train(fleet, progress, created_at)
        finally:
            self.on_report(fleet.report)

    def _train(self, fleet: Fleet, progress: Progress, created_at: datetime) -> SessionResult:
        self._gather(fleet)
        plan = fleet.plan
        if not plan.columns:
            fleet.plan = plan = with_columns(fleet)
        strategy = strategy_of(plan)(fleet, progress, lambda p: self._keep(fleet, p))
        estimator = strategy.run()
        progress = strategy.progress
        artifact = dump(
            estimator,
            plan.encoder,
            created_at=created_at,
            training=_figures(plan, progress),
            provenance={**_provenance(plan, progress), "models": len(estimator.models)},
            parent=None if plan.growth is None else plan.growth.parent,
            registry=plan.registry.restricted_to(estimator.models),
        )
        fleet.publish(artifact, self.sign(artifact))
        self.checkpoints.clear()
        return SessionResult(plan, estimator, artifact, progress, fleet.report)

    def _gather(self, fleet: Fleet) -> None:
        """Wait until enough sites are there that have something to teach.

        Raises:
            QuorumMissing: They did not come in time.
        """
        growth = fleet.plan.growth
        try:
            fleet.wait_for_quorum(self.sleep)
        except QuorumMissing as error:
            if growth is None:
                raise
            raise QuorumMissing(
                f"too few of {len(fleet.connected())} sites bring {' or '.join(growth.allowed)} "
                f"that router {growth.parent} lacks: {error}"
            ) from error

    def _resume(self) -> tuple[TrainingPlan, Progress]:
        """Load the checkpoint of an interrupted session of the same plan, or start anew."""
        data = self.checkpoints.load()
        if data is None:
            return self.plan, self.start
        try:
            plan, progress = checkpoint.load(data, self.plan)
        except CheckpointRejected as error:
            logger.warning("the training starts over: %s", error)
            return self.plan, self.start
        logger.info("the training resumes after round %d", progress.round)
        return plan, progress

    def _keep(self, fleet: Fleet, progress: Progress) -> None:
        self.checkpoints.save(checkpoint.dump(fleet.plan, progress))
        self.on_report(fleet.report)


def with_columns(fleet: Fleet) -> TrainingPlan:
    """Return the plan with its columns, now that the sites are known.

    Raises:
        QuorumMissing: Not one site has a row.
    """
    plan, growth = fleet.plan, fleet.plan.growth
    columns = {model for site in fleet.contributors().values() for model in site.models}
    if not columns:
        raise QuorumMissing("no site has rows of any model")
    if growth is None:
        return replace(plan, columns=tuple(sorted(columns)))
    joining = fleet.choose_joining(growth)
    new = tuple(sorted(columns - set(growth.models)))
    return replace(plan, columns=new if joining == MODELS_JOIN else growth.models, joining=joining)


def _figures(plan: TrainingPlan, progress: Progress) -> dict[str, Any]:
    """Return the training figures of the artefact's manifest; sites are not named."""
    return {
        "federated": True,
        "settings": asdict(plan.settings),
        **({} if plan.growth is None else {"joined": plan.joining}),
        "seed": plan.seed,
        "rule": plan.rule,
        "rounds": progress.round,
        "best_round": progress.best_round,
        "losses": {str(round_): loss for round_, loss in progress.losses.items()},
    }


def _provenance(plan: TrainingPlan, progress: Progress) -> dict[str, int]:
    sums = row_sums_of(plan, progress.state)
    return {
        "sites": int(progress.state[SITES][0]),
        "train_queries": round(float(sums.rows[0])),
        "train_evaluations": round(float(sums.count.sum())),
    }
