"""A gateway's log and store of routers, and who learns from them."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from gateway.artifacts.store import ArtifactStore
from gateway.evaluation_log.grades import GradeSource
from gateway.learning.events import LearningEvents
from gateway.learning.evidence import Evidence
from gateway.learning.first import FirstRouter
from gateway.learning.learner import Learner
from gateway.learning.opening import LEARNER
from gateway.learning.serving import Serving
from gateway.learning.watching import step_with_lease
from gateway.settings.learning import LearningSettings
from gateway.storage.lease import Lease
from gateway.types import TurnRecord
from router_models.artifacts.artifact import dump
from router_models.training.train import train
from router_models.types import Evaluations
from tests.fakes.artifacts import EncoderIdentity
from tests.fakes.evaluations import DIMENSION, made_up
from tests.fakes.logged import fill, records
from tests.fakes.turns import START_UNIX_S

ENCODER = EncoderIdentity(dimension=DIMENSION)
BEGIN = datetime.fromtimestamp(START_UNIX_S, UTC)
SETTINGS = LearningSettings(
    on_acceptance="activate",
    estimator="ridge",
    min_new_grades=300,
    watch_risk=0.05,
    kept_share=0.0,
)


@dataclass(eq=False)
class Clock:
    now: datetime = BEGIN

    def __call__(self) -> datetime:
        return self.now


@dataclass(frozen=True, eq=False)
class Loop:
    """A gateway's log and store, and who learns from them."""

    engine: Engine
    folder: Path
    clock: Clock

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(self.folder / "routers")

    @property
    def events(self) -> LearningEvents:
        return LearningEvents(self.engine)

    def learner(
        self, settings: LearningSettings = SETTINGS, first: FirstRouter | None = None
    ) -> Learner:
        return Learner(
            settings=settings,
            events=self.events,
            evidence=Evidence(self.engine, ENCODER, settings.max_rows),
            serving=Serving(self.store, ENCODER, first=first),
            lease=Lease(self.engine, LEARNER, "this one"),
            prices=np.geomspace(1.0, 100.0, 5),
            willingness_to_pay_usd=1.0,
            clock=self.clock,
        )

    def step(self, settings: LearningSettings = SETTINGS) -> list[str]:
        """Take a step; returns what was done."""
        return [event.what for event in step_with_lease(self.learner(settings)) or ()]

    async def serve(
        self,
        truth: Evaluations,
        prefix: str = "",
        *,
        answers: int = 1,
        source: GradeSource = "feedback",
    ) -> None:
        """Let callers ask, and have what they are answered graded; an hour later it is over."""
        later_s = (self.clock.now - BEGIN).total_seconds()
        moved = (
            replace(row, started_at_unix_s=row.started_at_unix_s + later_s)
            if isinstance(row, TurnRecord)
            else replace(row, created_at_unix_s=row.created_at_unix_s + later_s, source=source)
            for row in records(truth, answers=answers, prefix=prefix)
        )
        await fill(self.engine, self.folder, moved)
        self.clock.now += timedelta(hours=1)

    def activate(self, truth: Evaluations) -> str:
        """Let a router serve that was made of other rows."""
        made = train(truth, made_up(100, seed=8), "ridge", 0)
        data = dump(made, ENCODER, created_at=BEGIN, training={}, provenance={})
        return self.store.activate(self.store.put_own(data).version).version


def mistaken(seed: int = 5) -> Evaluations:
    """Answers that say the opposite of the truth."""
    rows = made_up(300, seed=seed)
    return replace(rows, quality=1.0 - rows.quality)
