"""Keeps child processes running that belong together: they start, end and are restarted as one.

A child is a function of a module that only the child imports, so that the parent stays small. It
leaves when its parent does, even by a kill the parent cannot see.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final

from federation.errors import EndedForGood

MAX_LOG_BYTES: Final = 4 * 1024 * 1024
MAX_REASON_BYTES: Final = 4096
DECORATION: Final = ("For more information", "INFO")


@dataclass(frozen=True, slots=True)
class ChildProcess:
    """One process.

    Attributes:
        function: Its main function, as ``module:name``.
        arguments: Handed to `function`; they must pickle.
        argv: What a command line program reads as its arguments.
        environ: Set before `function`'s module is imported.
        last_status: Where it ends with this status, it must not be started again.
    """

    name: str
    function: str
    log_file: Path
    arguments: tuple[Any, ...] = ()
    argv: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    last_status: int | None = None


@dataclass(frozen=True, slots=True)
class RestartBackoff:
    """When child processes that ended are started again, in seconds.

    Attributes:
        first_wait_s: Before the first restart; doubled up to `last_wait_s`.
        stable_s: Running this long makes the next restart a first one again.
        stop_s: Grace before a child that does not leave is killed.
    """

    first_wait_s: float = 0.2
    last_wait_s: float = 30.0
    stable_s: float = 60.0
    stop_s: float = 5.0


class Supervisor:
    """Runs a group of child processes; when one ends, all are stopped and started again.

    Attributes:
        restarts: Times they were.
        are_up: All of them run.
    """

    def __init__(
        self,
        children: tuple[ChildProcess, ...],
        report: Callable[[str], None],
        backoff: RestartBackoff | None = None,
    ) -> None:
        self.restarts = 0
        self.are_up = False
        self._children = children
        self._report = report
        self._backoff = backoff or RestartBackoff()

    async def run(self) -> None:
        """Keep the children running until cancelled; none outlives this call.

        Raises:
            EndedForGood: One of them ended with its last status.
        """
        backoff, wait_s = self._backoff, self._backoff.first_wait_s
        clock = asyncio.get_running_loop().time
        while True:
            started_s = clock()
            ended, status = await self._run_once()
            if status is not None and status == ended.last_status:
                raise EndedForGood(last_log_lines(ended.log_file))
            self.restarts += 1
            if clock() - started_s >= backoff.stable_s:
                wait_s = backoff.first_wait_s
            self._report(
                f"{ended.name} ended with status {status} and is started again in {wait_s:g} s; "
                f"its log {ended.log_file} ends: {last_log_lines(ended.log_file)}"
            )
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, backoff.last_wait_s)

    async def _run_once(self) -> tuple[ChildProcess, int | None]:
        """Start all, wait until one ends, stop the others; returns which ended, and how."""
        started: list[tuple[ChildProcess, SpawnProcess]] = []
        try:
            started.extend((child, _start(child)) for child in self._children)
            self.are_up = True
            child, process = await _first_to_end(started)
            return child, process.exitcode
        finally:
            self.are_up = False
            await asyncio.shield(self._stop([process for _, process in started]))

    async def _stop(self, processes: list[SpawnProcess]) -> None:
        for process in processes:
            process.terminate()
        for process in processes:
            await asyncio.to_thread(process.join, self._backoff.stop_s)
            if process.exitcode is None:
                process.kill()
                await asyncio.to_thread(process.join)
            process.close()


def last_log_lines(log_file: Path) -> str:
    """Return what a log says last, without Flower's decoration.

    It may hold words of the other side: what would steer a terminal is left out.
    """
    try:
        with log_file.open("rb") as file:
            file.seek(max(0, log_file.stat().st_size - MAX_REASON_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return "(no log)"
    _, exits, reason = text.rpartition("Exit Code:")
    said = (reason if exits else text).splitlines()
    lines = ["".join(filter(str.isprintable, line)).strip() for line in said]
    kept = [line for line in lines if line and not line.startswith(DECORATION)]
    return " ".join(kept[1:3] if exits else kept[-1:]) or "(empty)"


def _start(child: ChildProcess) -> SpawnProcess:
    process = get_context("spawn").Process(
        target=_run_child, args=(child,), name=child.name, daemon=True
    )
    process.start()
    return process


async def _first_to_end(
    started: list[tuple[ChildProcess, SpawnProcess]],
) -> tuple[ChildProcess, SpawnProcess]:
    loop = asyncio.get_running_loop()
    ended: asyncio.Queue[tuple[ChildProcess, SpawnProcess]] = asyncio.Queue()
    for pair in started:
        loop.add_reader(pair[1].sentinel, ended.put_nowait, pair)
    try:
        first = await ended.get()
    finally:
        for _, process in started:
            loop.remove_reader(process.sentinel)
    await asyncio.to_thread(first[1].join)
    return first


def _run_child(child: ChildProcess) -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    # Ctrl-C reaches the whole process group; the parent stops us in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(child.environ)
    sys.argv = [child.name, *child.argv]
    _write_to(child.log_file)
    module, _, name = child.function.partition(":")
    getattr(import_module(module), name)(*child.arguments)


def _leave_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(0)


def _write_to(log_file: Path) -> None:
    log_file.parent.mkdir(parents=True, exist_ok=True)
    if log_file.exists() and log_file.stat().st_size > MAX_LOG_BYTES:
        log_file.replace(log_file.with_suffix(".old.log"))
    with log_file.open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
