"""Several processes that serve the same two ports: begun, watched, replaced and stopped by one.

The parent listens and hands the sockets on, so that a worker that dies takes no connection with it
that another could take. It does nothing else: no request passes through it.
"""

import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any, Final

from gateway.server.serving import Ports, heeded
from gateway.settings.config import ConfigurationError, GatewaySettings
from gateway.telemetry.worker_metrics import WorkerMetrics

FIRST_WAIT_S: Final = 0.2
LAST_WAIT_S: Final = 30.0
STABLE_S: Final = 60.0
"""A worker that ran so long is replaced at once when it ends."""
SIGNAL_POLL_S: Final = 0.2
KILL_AFTER_S: Final = 15.0
"""Beyond drain and grace: what a worker may take to write its log."""

Work = Callable[[GatewaySettings, Ports, WorkerMetrics, Connection], None]
"""A worker's main function: serves, and sends the lines that announce it once it does."""

_log = logging.getLogger(__name__)


def check_settings(settings: GatewaySettings) -> None:
    """Refuse what several workers would do wrong.

    Raises:
        ConfigurationError: Budgets are counted in memory, or an embedded pool would run.
    """
    workers = settings.server.workers
    if workers == 1:
        return
    if settings.budgets.store == "memory":
        raise ConfigurationError(
            f'server.workers = {workers} needs budgets.store = "redis": in memory each worker '
            f"would count on its own, so each budget could be spent {workers} times"
        )
    embedded = settings.embedded.enabled
    if embedded or (embedded is None and not settings.providers):
        raise ConfigurationError(
            f"server.workers = {workers}: the embedded pool serves one worker; configure providers "
            "and set embedded.enabled = false"
        )


@dataclass(slots=True)
class _Worker:
    """One place among the workers, and who has it."""

    number: int
    process: SpawnProcess | None = None
    ready_pipe: Connection | None = None
    began_s: float = 0.0
    wait_s: float = FIRST_WAIT_S
    due_s: float = 0.0
    has_served: bool = False


@dataclass(slots=True)
class Workers:
    """Runs the workers of one gateway.

    Attributes:
        announce: Called with the first worker's lines once all serve.
    """

    settings: GatewaySettings
    ports: Ports
    work: Work
    announce: Callable[[list[str]], None]
    _workers: list[_Worker] = field(init=False)
    _folder: Path = field(init=False)
    _lines: list[str] = field(default_factory=list, init=False)
    _has_announced: bool = field(default=False, init=False)
    _stop_by_s: float | None = field(default=None, init=False)
    _signals: int = field(default=0, init=False)

    def run(self) -> int:
        """Keep the workers running until told to stop; returns the exit status.

        A worker that ends before it ever served ends all: its settings would never do.
        """
        self._workers = [_Worker(number) for number in range(self.settings.server.workers)]
        for number in heeded():
            signal.signal(number, self._note_signal)
        with tempfile.TemporaryDirectory(prefix="waypost-") as folder:
            self._folder = Path(folder)
            return self._watch()

    def _watch(self) -> int:
        status = 0
        while self._stop_by_s is None or self._running():
            if self._stop_by_s is None:
                self._start_due()
            changed = self._changed()
            for _ in range(self._signals):
                self._signals -= 1
                self._stop()
            for worker in changed:
                self._read_ready_lines(worker)
                if worker.process is not None and worker.process.exitcode is not None:
                    ended_with = self._note_exit(worker)
                    status = status or ended_with
        return status

    def _running(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.process is not None]

    def _start_due(self) -> None:
        now_s = time.monotonic()
        for worker in self._workers:
            if worker.process is None and worker.due_s <= now_s:
                self._start(worker)

    def _start(self, worker: _Worker) -> None:
        context = get_context("spawn")
        worker.ready_pipe, ready_end = context.Pipe(duplex=False)
        metrics = WorkerMetrics(worker.number, len(self._workers), self._folder)
        process = context.Process(
            target=_run,
            args=(self.work, self.settings, self.ports, metrics, ready_end),
            name=f"worker-{worker.number}",
            daemon=True,
        )
        process.start()
        ready_end.close()
        worker.process, worker.began_s = process, time.monotonic()

    def _changed(self) -> list[_Worker]:
        """Wait until a worker speaks or ends, or is due; returns those that did."""
        places: dict[Any, _Worker] = {}
        for worker in self._running():
            if worker.process is not None:
                places[worker.process.sentinel] = worker
            if worker.ready_pipe is not None:
                places[worker.ready_pipe] = worker
        found = {places[place].number for place in wait(list(places), self._patience_s())}
        if self._stop_by_s is not None and time.monotonic() > self._stop_by_s:
            self._kill()
        return [worker for worker in self._workers if worker.number in found]

    def _patience_s(self) -> float:
        """Return how long to wait; short, since a signal does not end the wait."""
        due = [worker.due_s for worker in self._workers if worker.process is None]
        return min([SIGNAL_POLL_S, *(max(due_s - time.monotonic(), 0.0) for due_s in due)])

    def _read_ready_lines(self, worker: _Worker) -> None:
        """Take the lines by which a worker announces itself; they come once."""
        if worker.ready_pipe is None or not worker.ready_pipe.poll():
            return
        try:
            self._lines = self._lines or worker.ready_pipe.recv()
            worker.has_served = True
        except EOFError:
            pass
        worker.ready_pipe.close()
        worker.ready_pipe = None
        if not self._has_announced and all(each.has_served for each in self._workers):
            self._has_announced = True
            self.announce(self._lines)

    def _note_exit(self, worker: _Worker) -> int:
        """Note that a worker ended; returns the status to exit with."""
        process, now_s = worker.process, time.monotonic()
        status = 0 if process is None else process.exitcode or 0
        worker.process = worker.ready_pipe = None
        if self._stop_by_s is not None:
            # One that was still starting ends by the signal itself.
            return int(status not in {0, -signal.SIGTERM})
        if not worker.has_served:
            self._stop()
            return status or 1
        if now_s - worker.began_s >= STABLE_S:
            worker.wait_s = FIRST_WAIT_S
        _log.error(
            "worker %d ended with status %d; a new one starts in %g s",
            *(worker.number, status, worker.wait_s),
        )
        worker.due_s = now_s + worker.wait_s
        worker.wait_s = min(2 * worker.wait_s, LAST_WAIT_S)
        return 0

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        """Leave everything else to the loop, which knows in what state the workers are."""
        del number, frame
        self._signals += 1

    def _stop(self) -> None:
        """Tell all workers to stop; a second time they stop at once."""
        server = self.settings.server
        if self._stop_by_s is None:
            grace_s = server.drain_s + server.shutdown_grace_s + KILL_AFTER_S
            self._stop_by_s = time.monotonic() + grace_s
            # The workers' own sockets are the last ones: as they close, callers are refused.
            self.ports.close()
        for worker in self._running():
            if worker.process is not None:
                worker.process.terminate()

    def _kill(self) -> None:
        for worker in self._running():
            if worker.process is not None:
                _log.error(
                    "worker %d did not end within its grace period and is killed", worker.number
                )
                worker.process.kill()


def _run(
    work: Work,
    settings: GatewaySettings,
    ports: Ports,
    metrics: WorkerMetrics,
    ready_end: Connection,
) -> None:
    # A terminal tells the whole process group, and the parent passes it on as SIGTERM.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    work(settings, ports, metrics, ready_end)


def _leave_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
