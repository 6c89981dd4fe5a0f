"""The coordinator's scheduler: begins training sessions, and resumes one that was interrupted.

`SessionScheduler` runs beside Flower's SuperLink in a process of its own. Killed at any moment, it
finds the open session on disk and continues it in a new Flower run; late answers to the old run
are ignored.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
from flwr.serverapp import Grid

from federation.deployment.flower import RunStopped, SuperLinkClient, TaskWorker
from federation.deployment.node_keys import NodeKeys
from federation.deployment.sessions import SessionRecord, SessionStore
from federation.errors import FederationError

logger = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 5
"""A session that ends its process every time is given up."""

Train = Callable[[Grid, SessionRecord], Mapping[str, Any]]
"""Runs one session on a grid of nodes; returns its report."""


@dataclass(frozen=True, slots=True)
class SessionScheduler:
    """Runs training sessions one after the other, and resumes an interrupted one.

    Attributes:
        every: A session begins when the last router to be trained anew was asked for so long ago;
            None: on demand alone.
        clock: The time of day.
    """

    operator: SuperLinkClient
    tasks: TaskWorker
    sessions: SessionStore
    train: Train
    every: timedelta | None
    clock: Callable[[], datetime]
    poll_s: float = 0.5

    def run(self) -> None:
        """Run sessions until the process ends.

        Raises:
            httpx.HTTPError: Flower refuses us.
        """
        logger.info("the coordinator starts trainings; their folder is %s", self.sessions.folder)
        while True:
            session = self._next()
            if session is None:
                time.sleep(self.poll_s)
            else:
                self._conduct(session)

    def _next(self) -> SessionRecord | None:
        """Return the oldest open session; ask for one if it is time."""
        sessions = self.sessions.recent()
        is_open = next((session for session in sessions if session.is_open), None)
        if is_open is not None or self.every is None:
            return is_open
        now = self.clock()
        anew = [session for session in sessions if session.is_full_router_training]
        if anew and now - anew[-1].asked_at < self.every:
            return None
        return self.sessions.ask("schedule", now)

    def _conduct(self, session: SessionRecord) -> None:
        if session.run_id is not None:
            logger.info("session %s resumes after an interruption", session.id)
            self.operator.stop_run(session.run_id)
        if session.attempts >= MAX_ATTEMPTS:
            reason = f"given up, as its process ended {session.attempts} times"
            self.sessions.end(session, self.clock(), reason=reason)
            return
        begun = self.sessions.begin(session, self.operator.start_run())
        logger.info("session %s trains in run %d", begun.id, begun.run_id)
        while self.sessions.read(begun.id).state == "training":
            try:
                self.tasks.run(lambda run_id, grid: self._serve(begun, run_id, grid))
            except RunStopped:
                logger.warning("session %s lost its Flower run and starts another one", begun.id)
                return

    def _serve(self, session: SessionRecord, run_id: int, grid: Grid) -> None:
        if run_id != session.run_id:
            logger.warning(
                "Flower run %d was not started by this coordinator and is ignored", run_id
            )
            return
        try:
            report = self.train(grid, session)
        except FederationError as error:
            logger.warning("session %s failed: %s", session.id, error)
            self.sessions.end(session, self.clock(), reason=str(error))
        else:
            logger.info("session %s finished", session.id)
            self.sessions.end(session, self.clock(), report=report, reason=None)


def keep_registering(operator: SuperLinkClient, folder: Path, poll_s: float) -> None:
    """Register the nodes of a folder with Flower, in a thread that polls the folder.

    A node whose file goes is shut out by the gate; Flower would never take its key a second time.
    """

    def run() -> None:
        admitted = NodeKeys({})
        while True:
            wanted = NodeKeys.read(folder)
            if wanted != admitted:
                try:
                    _admit(operator, wanted)
                    admitted = wanted
                except httpx.HTTPError as error:
                    logger.warning("cannot register nodes: %s", error)
            time.sleep(poll_s)

    threading.Thread(target=run, name="node-keys", daemon=True).start()


def _admit(operator: SuperLinkClient, wanted: NodeKeys) -> None:
    for problem in wanted.problems:
        logger.warning("%s", problem)
    registered = operator.registered()
    for name, key in wanted.keys.items():
        if key not in registered:
            logger.info("registering node %s", name)
            operator.admit(name, key)
