"""A federation as real processes on this machine: a coordinator, nodes and gateways."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from federation.deployment.certificates import CertificateFolder
from federation.deployment.programs import free_port
from federation.deployment.sessions import FileCheckpoints, SessionRecord, SessionStore
from tests.fakes.turns import until

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 600.0
"""A loaded machine with two cores takes its time to start ten processes."""
POLL_S = 0.1
"""Those processes need the cores more than the test does."""
COORDINATOR = """
data_dir = "{data}"
[embedded]
enabled = false
[federation.coordinator]
port = {port}
quorum = {quorum}
round_timeout_s = {round_timeout_s}
{more}
"""
NODE = """
[federation.node]
name = "{name}"
coordinator = "127.0.0.1:{port}"
authority = "{authority}"
private_key = "{private_key}"
{more}
"""


@dataclass
class Daemon:
    """One module that runs until it is stopped or killed; its output goes to a file."""

    arguments: tuple[str, ...]
    log_file: Path
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, once more if it has ended."""
        with self.log_file.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *self.arguments),
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal and wait for its end."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()

    async def says(self, pattern: str) -> re.Match[str]:
        """Wait until its output has `pattern`."""
        await until(lambda: re.search(pattern, self.output) is not None, PATIENCE_S, POLL_S)
        found = re.search(pattern, self.output)
        assert found is not None
        return found

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self.log_file.read_text() if self.log_file.exists() else ""


@dataclass
class Federation:
    """One coordinator and its nodes, not yet started.

    Attributes:
        folder: Holds a data directory per organisation, and the coordinator's.
        running: Ends what was started.
    """

    folder: Path
    port: int
    running: AsyncExitStack

    @property
    def certificates(self) -> CertificateFolder:
        """What coordinator and nodes know each other by."""
        return CertificateFolder(self.coordinator_data / "federation" / "certificates")

    @property
    def coordinator_data(self) -> Path:
        """The coordinator's data directory."""
        return self.folder / "coordinator"

    @property
    def sessions(self) -> SessionStore:
        """The coordinator's trainings."""
        return SessionStore(self.coordinator_data / "federation" / "sessions")

    def settings_file(self, name: str) -> Path:
        """Where the settings of an organisation, or of the coordinator, are."""
        return self.folder / f"{name}.toml"

    def daemon(self, name: str, *command: str) -> Daemon:
        """Lay out a `waypost` command under these settings."""
        return self.module_daemon(name, "gateway", *command)

    def module_daemon(self, name: str, module: str, *arguments: str) -> Daemon:
        """Lay out a module of ours with settings; it ends with the federation."""
        given = (module, *arguments, "--config", str(self.settings_file(name)))
        daemon = Daemon(given, self.folder / f"{name}-{arguments[-1]}.log")
        self.running.push_async_callback(daemon.end, signal.SIGKILL)
        return daemon

    def lay_out_coordinator(
        self, *, quorum: int = 2, round_timeout_s: float = 300.0, more: str = ""
    ) -> Daemon:
        """Make the coordinator's certificate and settings."""
        self.certificates.issue_server(["127.0.0.1"], datetime.now(UTC))
        self.settings_file("coordinator").write_text(
            COORDINATOR.format(
                data=self.coordinator_data,
                port=self.port,
                quorum=quorum,
                round_timeout_s=round_timeout_s,
                more=more,
            )
        )
        return self.daemon("coordinator", "federation", "coordinator")

    def lay_out_node(self, name: str, settings: str, more: str = "") -> Daemon:
        """Make a node's key, and its settings on top of its gateway's."""
        self.certificates.make_node_key(name)
        node = NODE.format(
            name=name,
            port=self.port,
            authority=self.certificates.authority,
            private_key=self.certificates.private_keys / f"{name}.key",
            more=more,
        )
        self.settings_file(name).write_text(settings + node)
        return self.daemon(name, "federation", "join")

    def questions(self, name: str) -> int:
        """How many questions a node has begun to answer."""
        return self._supernode_log(name).count("Receiving: ")

    def connections(self, name: str) -> int:
        """How often the coordinator has let a node in."""
        return self._supernode_log(name).count("SuperNode ID: ")

    async def connected(self, *names: str) -> None:
        """Wait until the coordinator has let these nodes in."""
        await until(lambda: all(map(self.connections, names)), PATIENCE_S, POLL_S)

    def _supernode_log(self, name: str) -> str:
        log = self.folder / name / "federation" / "node" / "supernode.log"
        return log.read_text() if log.exists() else ""

    def checkpoint(self, session: SessionRecord) -> bytes | None:
        """What the coordinator would go on from."""
        return FileCheckpoints(self.sessions.folder_of(session) / "checkpoint").load()

    async def train(self) -> SessionRecord:
        """Ask for a training and wait for its end."""
        return await self.ended(self.sessions.ask("test", datetime.now(UTC)))

    async def ended(self, session: SessionRecord) -> SessionRecord:
        """Wait for a session's end: that of a whole training, perhaps beside other trainings."""
        await until(lambda: not self.sessions.read(session.id).is_open, 3 * PATIENCE_S, POLL_S)
        return self.sessions.read(session.id)


@asynccontextmanager
async def federation_in(folder: Path) -> AsyncIterator[Federation]:
    """Lend an empty federation; everything that was started is ended with it."""
    async with AsyncExitStack() as running:
        yield Federation(folder, free_port(), running)
