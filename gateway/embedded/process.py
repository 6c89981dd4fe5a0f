"""Keeps one llama.cpp server running in a child process, out of harm's way of the gateway."""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.embedded.weights import BASE_MODEL
from gateway.settings.config import EmbeddedSettings

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
CHILD = Path(__file__).with_name("child.py")
LOG_NAME = "embedded.log"
MAX_LOG_BYTES = 4 * 1024 * 1024
QUEUED_PER_SLOT = 8
# What a process needs to start; the gateway's secrets are not among it.
PASSED_VARIABLES = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "SYSTEMROOT"),
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME"),
)


@dataclass(frozen=True, slots=True)
class PoolTiming:
    """How the child is watched, in seconds.

    Attributes:
        starting_poll_s: Between two health checks while the weights load.
        health_interval_s: Between two health checks of a serving child.
        health_timeout_s: After which one check has failed.
        health_failures: Failures in a row before the child is killed as hung.
        load_timeout_s: After which a child that never became ready is killed.
        first_restart_s: Wait before the first restart; doubled up to `last_restart_s`.
        stable_s: Serving this long makes the next restart a first one again.
        stop_s: Grace before a child that does not leave is killed.
    """

    starting_poll_s: float = 0.05
    health_interval_s: float = 5.0
    health_timeout_s: float = 10.0
    health_failures: int = 3
    load_timeout_s: float = 120.0
    first_restart_s: float = 0.1
    last_restart_s: float = 30.0
    stable_s: float = 60.0
    stop_s: float = 3.0


class EmbeddedPool:
    """A llama.cpp server with OpenAI's API on a port of this machine, restarted when it dies.

    The address and the key hold for the life of the pool, whatever happens to the child.

    Args:
        weights: The GGUF file.
        log_file: Where llama.cpp's messages go.
        environ: The gateway's environment; the child gets a few harmless variables of it.
        adapters: GGUF files; requests turn them on by their place here, see `adapter_field`.
        command: The child's program; replaced in tests.
        on_restart: Called each time a child is about to be replaced.
    """

    def __init__(
        self,
        weights: Path,
        settings: EmbeddedSettings,
        log_file: Path,
        environ: Mapping[str, str],
        *,
        adapters: Sequence[Path] = (),
        timing: PoolTiming | None = None,
        command: tuple[str, ...] = (sys.executable, "-P", str(CHILD)),
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self.log_file = log_file
        self.api_key = secrets.token_urlsafe(24)
        self.restarts = 0
        self.problem: str | None = None
        """Why the child is not serving; None while it is or has not failed yet."""
        self.max_concurrency = settings.parallel * QUEUED_PER_SLOT
        self._timing = timing or PoolTiming()
        self._command = command
        self._on_restart = on_restart
        self._environ = {name: environ[name] for name in PASSED_VARIABLES if name in environ}
        self._reserved, self._port = _reserve_port()
        self._options = self._child_options(weights, settings, adapters)
        self._ready = asyncio.Event()
        self._process: Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def base_url(self) -> str:
        """Where the OpenAI API is served; known before the child is."""
        return f"http://{HOST}:{self._port}/v1"

    @property
    def is_ready(self) -> bool:
        """Whether the last health check succeeded."""
        return self._ready.is_set()

    @property
    def pid(self) -> int | None:
        """The child's process id, where one runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start the child in the background and return at once."""
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise(), name="embedded-pool")

    async def wait_ready(self, timeout_s: float) -> bool:
        """Wait until requests can be served; False if they cannot after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        return self.is_ready

    async def aclose(self) -> None:
        """Stop the child and give the port back."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    async def _supervise(self) -> None:
        timing, wait_s = self._timing, self._timing.first_restart_s
        clock = asyncio.get_running_loop().time
        while True:
            started_at = clock()
            try:
                await self._run_once()
            except OSError as error:
                self._report(f"cannot be started: {error}")
            if clock() - started_at >= timing.stable_s:
                wait_s = timing.first_restart_s
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, timing.last_restart_s)
            self.restarts += 1
            self._on_restart()

    async def _run_once(self) -> None:
        """Start the child and watch it to its end, however that comes about."""
        process = await self._spawn()
        self._process = process
        ended = asyncio.create_task(process.wait())
        try:
            reason = await self._watch(ended)
        finally:
            self._ready.clear()
            await self._stop(process)
            ended.cancel()
        self._report(reason)

    async def _spawn(self) -> Process:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        if self.log_file.exists() and self.log_file.stat().st_size > MAX_LOG_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".old.log"))
        with self.log_file.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environ,
            )
        # Kept open on purpose: the child leaves when this end closes, even by our sudden death.
        _pipe(process).write(json.dumps(self._options).encode() + b"\n")
        return process

    async def _watch(self, ended: "asyncio.Task[int]") -> str:
        """Check the child's health until it ends or hangs, and say which."""
        timing, clock = self._timing, asyncio.get_running_loop().time
        give_up_at, failures = clock() + timing.load_timeout_s, 0
        while True:
            interval_s = timing.health_interval_s if self.is_ready else timing.starting_poll_s
            await asyncio.wait({ended}, timeout=interval_s)
            if ended.done():
                return f"ended with status {ended.result()}"
            if await self._is_healthy():
                self._ready.set()
                self.problem, failures = None, 0
                continue
            failures += self.is_ready
            if failures >= timing.health_failures:
                return f"did not answer {failures} health checks"
            if not self.is_ready and clock() > give_up_at:
                return f"was not ready after {timing.load_timeout_s:g} s"

    async def _is_healthy(self) -> bool:
        # Not `wait_for`: before Python 3.12 it forgets that it was cancelled if what it waits for
        # ends at the same time, and then the pool never closes.
        try:
            async with asyncio.timeout(self._timing.health_timeout_s):
                return b" 200 " in await _health_status(self._port)
        except (OSError, TimeoutError):
            return False

    async def _stop(self, process: Process) -> None:
        _pipe(process).close()
        try:
            async with asyncio.timeout(self._timing.stop_s):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _report(self, reason: str) -> None:
        self.problem = f"The embedded models' process {reason}; its log is {self.log_file}"
        logger.warning("%s", self.problem)

    def _child_options(
        self, weights: Path, settings: EmbeddedSettings, adapters: Sequence[Path]
    ) -> dict[str, Any]:
        return {
            "weights": str(weights),
            "adapters": [str(path) for path in adapters],
            "model": BASE_MODEL,
            "port": self._port,
            "reuse_port": self._reserved is not None,
            "api_key": self.api_key,
            "threads": usable_threads(settings.threads, os.cpu_count() or 1),
            "parallel": settings.parallel,
            "context_tokens": settings.context_tokens,
            # Each waiting request holds a thread, and health checks must still get one.
            "http_threads": self.max_concurrency + 8,
            "parent_pid": os.getpid(),
        }


def adapter_field(n_adapters: int, chosen: int | None) -> dict[str, Any]:
    """Return the request field that turns one adapter on and all others off.

    It is needed also where none is on: without it llama.cpp goes on from what its slot read last,
    whichever adapter that was read with (measured).
    """
    if n_adapters == 0:
        return {}
    return {"lora": [{"id": n, "scale": float(n == chosen)} for n in range(n_adapters)]}


def usable_threads(wanted: int, cores: int) -> int:
    """Leave one core to the gateway and everything else.

    llama.cpp's threads wait for each other hundreds of times per token: on two busy cores two
    threads were measured to write 0.4 tokens/s where one wrote 20.
    """
    return max(1, min(wanted, cores - 1))


def _pipe(process: Process) -> asyncio.StreamWriter:
    assert process.stdin is not None  # noqa: S101 - every child is started with one
    return process.stdin


def _reserve_port() -> tuple[socket.socket | None, int]:
    """Take a free port; where the system can share one, hold it so that a restart finds it free."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    is_shared = hasattr(socket, "SO_REUSEPORT")
    if is_shared:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((HOST, 0))
    port = int(holder.getsockname()[1])
    if is_shared:
        # Bound but not listening: connections go to the child alone, or are refused.
        return holder, port
    holder.close()
    return None, port


async def _health_status(port: int) -> bytes:
    """Return the status line of ``GET /health``."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(b"GET /health HTTP/1.1\r\nHost: embedded\r\nConnection: close\r\n\r\n")
        return await reader.readline()
    finally:
        writer.close()
