"""The learner as a process of its own beside `waypost serve`, started again when it ends.

Training takes a core for minutes and imports what serving must not: so it never runs in a process
that serves. It has a low priority and one thread, and it leaves when its parent does.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Final

from gateway.settings.config import ConfigurationError, GatewaySettings

NICENESS: Final = 10
SINGLE_THREADED: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
FUNCTION: Final = "gateway.learning.process:learn"
"""Imported by the child alone."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Restarts:
    """When a learner that ended is started again, in seconds.

    Attributes:
        first_wait_s: Before the first restart; doubled up to `last_wait_s`.
        stable_s: Running this long makes the next restart a first one again.
        stop_s: Grace before a learner that does not leave is killed.
    """

    first_wait_s: float = 1.0
    last_wait_s: float = 300.0
    stable_s: float = 600.0
    stop_s: float = 5.0


@dataclass(slots=True, eq=False)
class LearnerProcess:
    """Keeps one child running.

    Attributes:
        function: The child's main function, as ``module:name``; replaced in tests.
        restarts: Times that it was started again.
        process: The child that runs; None between two of them.
    """

    settings: GatewaySettings
    function: str = FUNCTION
    timing: Restarts = field(default_factory=Restarts)
    restarts: int = 0
    process: SpawnProcess | None = None
    _is_over: threading.Event = field(default_factory=threading.Event, init=False)

    def run(self) -> None:
        """Start the child again and again, until `stop`."""
        wait_s = self.timing.first_wait_s
        while not self._is_over.is_set():
            began_s = time.monotonic()
            status = self._run_once()
            if self._is_over.is_set():
                return
            if time.monotonic() - began_s >= self.timing.stable_s:
                wait_s = self.timing.first_wait_s
            _log.error("the learner ended with status %s; it starts in %g s", status, wait_s)
            self._is_over.wait(wait_s)
            wait_s = min(2 * wait_s, self.timing.last_wait_s)
            self.restarts += 1

    def stop(self) -> None:
        """Have the child end, and `run` return; what a training had learned so far is lost."""
        self._is_over.set()
        process = self.process
        if process is not None and process.is_alive():
            process.terminate()

    def _run_once(self) -> int | None:
        arguments = (self.settings, self.function)
        process = get_context("spawn").Process(
            target=_run_child, args=arguments, name="learner", daemon=True
        )
        process.start()
        self.process = process
        while process.exitcode is None:
            wait([process.sentinel], timeout=0.2)
            if self._is_over.is_set():
                process.terminate()
                process.join(self.timing.stop_s)
                process.kill()
                process.join()
        self.process = None
        return process.exitcode


@contextmanager
def learner_beside(settings: GatewaySettings) -> Iterator[None]:
    """Run the learner for as long as a gateway serves, if it is enabled.

    Raises:
        ConfigurationError: What it needs is not installed.
    """
    if not settings.learning.enabled:
        yield
        return
    if find_spec("sklearn") is None:
        raise ConfigurationError("learning.enabled: needs pip install 'waypost[train]'")
    child = LearnerProcess(settings)
    keeping = threading.Thread(target=child.run, name="learner", daemon=True)
    keeping.start()
    try:
        yield
    finally:
        child.stop()
        keeping.join()


def _run_child(settings: GatewaySettings, function: str) -> None:
    os.environ.update(SINGLE_THREADED)
    os.nice(NICENESS)
    # Ctrl-C reaches the whole process group; the parent stops us in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    module, _, name = function.partition(":")
    getattr(import_module(module), name)(settings)


def _leave_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # At once: a step acts before it says so, and the next one notes what it finds.
        os._exit(0)
