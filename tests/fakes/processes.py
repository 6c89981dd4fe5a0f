"""A real gateway process: started, watched while it starts, and ended."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import httpx2

from tests.fakes.gateway import SteppedUpstream
from tests.fakes.patience import PATIENCE_S
from tests.fakes.turns import until
from tests.fakes.upstream import stream_chunks

ROOT = Path(__file__).resolve().parents[2]
CHAT = "/v1/chat/completions"
LAST_LINE = re.compile(r"Waypost serves (http://127\.0\.0\.1:\d+)/v1")
ADMIN = re.compile(r"admin and metrics: (http://127\.0\.0\.1:\d+) ")
KEY = re.compile(r"your key: in (.+)")

COVERED = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
"""Says to a process that its coverage is measured."""


@dataclass
class Serving:
    """A process that serves, and what it printed until it did.

    Its log goes to a file: a pipe that nobody reads would block it when full.
    """

    process: asyncio.subprocess.Process
    log: IO[bytes]
    printed: list[str] = field(default_factory=list)

    async def started(self) -> str:
        """Wait until it serves; return its URL."""
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode():
            self.printed.append(line)
            if found := LAST_LINE.match(line):
                return found[1]
        raise AssertionError(f"the process ended: {self.printed} {self.logged}")

    @property
    def logged(self) -> str:
        """What it logged; to be asked once it has ended, for both share a position in the file."""
        self.log.seek(0)
        return self.log.read().decode()

    @property
    def admin_url(self) -> str:
        """Where operators reach it."""
        found = ADMIN.search("".join(self.printed))
        assert found is not None
        return found[1]

    @property
    def key(self) -> str | None:
        """The first key, where this start made it."""
        found = KEY.search("".join(self.printed))
        return None if found is None else Path(found[1]).read_text().strip()

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        """Wait for the exit status."""
        await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def start(
    settings_file: Path, max_files: int | None = None, *, covered: bool = True
) -> AsyncIterator[Serving]:
    """Run `python -m gateway serve`.

    Args:
        max_files: How many it may have open.
        covered: Whether its coverage is measured, which takes as much time again.
    """
    environ = {name: value for name, value in os.environ.items() if covered or name not in COVERED}
    limit = "" if max_files is None else f"ulimit -n {max_files} && "
    with TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", f'{limit}exec "$@"', "sh", sys.executable),
            *("-m", "gateway", "serve", "--config", str(settings_file)),
            cwd=ROOT,
            env=environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        try:
            yield Serving(process, log)
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


def caller(url: str, key: str) -> httpx2.AsyncClient:
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_S, trust_env=False)


def accepts(url: str) -> bool:
    """Whether connections are taken; that they no longer are is how a process's end begins."""
    address = httpx2.URL(url)
    with socket.socket() as probe:
        return probe.connect_ex((address.host, address.port)) == 0


async def stream_across_the_end(
    serving: Serving, upstream: SteppedUpstream, body: dict[str, Any]
) -> tuple[bytes, int]:
    """Begin a stream, have the process end in the middle of it, and send the rest.

    Returns what the caller received, and the exit status.
    """
    first, *rest = stream_chunks("Hello!")
    url = await serving.started()
    assert serving.key is not None
    upstream.send(first)
    async with (
        caller(url, serving.key) as http,
        http.stream("POST", CHAT, json=body | {"stream": True}) as response,
    ):
        serving.process.send_signal(signal.SIGTERM)
        await until(lambda: not accepts(url))
        for event in rest:
            upstream.send(event)
        upstream.end()
        received = await response.aread()
    return received, await serving.ended()
