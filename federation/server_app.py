"""One session from the first greeting to the published router, and the Flower app that runs it."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from federation import checkpoint
from federation.checkpoint import Checkpoints
from federation.errors import CheckpointRejected, QuorumMissing
from federation.exchanges.rows import SITES, row_sums_of
from federation.fleet import Fleet, need_quorum
from federation.protocol import TrainingPlan
from federation.report import SessionReport
from federation.strategies import STRATEGIES, Progress
from router_models.artifact import dump
from router_models.types import Estimator

POLL_S = 3.0
"""Between looks for nodes that have not connected yet."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class SessionResult:
    """What came of a session.

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
    """

    grid: Grid
    plan: TrainingPlan
    checkpoints: Checkpoints
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(self, created_at: datetime) -> SessionResult:
        """Train and publish; an earlier session of the same plan that was cut off goes on.

        Raises:
            QuorumMissing: Too few sites connected, or answered well, in time. The checkpoint stays.
        """
        plan, progress = self._resume()
        fleet = Fleet(self.grid, plan, self.clock)
        self._gather(fleet)
        if not plan.columns:
            fleet.plan = plan = replace(plan, columns=columns_of(fleet))
        strategy = STRATEGIES[plan.kind](fleet, progress, lambda p: self._keep(plan, p))
        estimator = strategy.run()
        progress = strategy.progress
        artifact = dump(
            estimator,
            plan.encoder,
            created_at=created_at,
            training=_figures(plan, progress),
            provenance=_provenance(plan, progress),
            registry=plan.registry.only(plan.columns),
        )
        fleet.publish(artifact)
        self.checkpoints.clear()
        return SessionResult(plan, estimator, artifact, progress, fleet.report)

    def _resume(self) -> tuple[TrainingPlan, Progress]:
        """Go on where a session of the same plan was cut off; begin anew where there is none."""
        data = self.checkpoints.load()
        if data is None:
            return self.plan, Progress()
        try:
            plan, progress = checkpoint.load(data, self.plan)
        except CheckpointRejected as error:
            logger.warning("beginning anew: %s", error)
            return self.plan, Progress()
        logger.info("going on after round %d", progress.round)
        return plan, progress

    def _keep(self, plan: TrainingPlan, progress: Progress) -> None:
        self.checkpoints.save(checkpoint.dump(plan, progress))

    def _gather(self, fleet: Fleet) -> None:
        """Wait until enough sites are there.

        Raises:
            QuorumMissing: They did not come in time.
        """
        deadline = self.clock() + self.plan.timeout_s
        fleet.greet()
        while len(fleet.present()) < self.plan.quorum and self.clock() < deadline:
            self.sleep(POLL_S)
            fleet.greet()
        need_quorum(self.plan, len(fleet.present()), fleet.report)


def columns_of(fleet: Fleet) -> tuple[str, ...]:
    """List the models that any site has rows of.

    Raises:
        QuorumMissing: Not one site has a row.
    """
    columns = sorted({model for site in fleet.present().values() for model in site.models})
    if not columns:
        raise QuorumMissing("no site has rows of any model")
    return tuple(columns)


def build_server_app(
    plan_of: Callable[[Context], TrainingPlan],
    checkpoints: Checkpoints,
    now: Callable[[], datetime],
    finish: Callable[[SessionResult], None],
) -> ServerApp:
    """Make the app that runs one session per run.

    Args:
        plan_of: Says what a run is to train.
        checkpoints: Where progress is kept between runs.
        now: Date of a router, with its time zone.
        finish: Gets what came of it.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        finish(Session(grid, plan_of(context), checkpoints).run(now()))

    return app


def _figures(plan: TrainingPlan, progress: Progress) -> dict[str, Any]:
    """Return what an artefact says of its training; sites are not named."""
    return {
        "federated": True,
        "settings": asdict(plan.settings),
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
        "models": len(plan.columns),
    }
