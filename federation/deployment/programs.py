"""Flower's two programs as children: how they are called, and what they may not do.

Neither installs anything, calls home or looks for updates. Both take tasks from nobody without the
secret, and listen on this machine alone.
"""

import secrets
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from federation.deployment.certificates import CertificateFolder, write_private
from federation.deployment.shut_out import SHUT_OUT_STATUS
from federation.deployment.supervisor import ChildProcess

LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Program:
    """One of Flower's programs on this machine.

    Attributes:
        folder: For its state, its log and its secret; nobody else's to read.
        port: Of its Runtime API, for the process that takes its tasks.
    """

    folder: Path
    port: int

    @property
    def address(self) -> str:
        """Where its Runtime API is."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def secret_file(self) -> Path:
        """What a process must know to take its tasks."""
        return self.folder / "tasks.secret"

    @property
    def loopback(self) -> CertificateFolder:
        """Flower wants TLS even on this machine where nodes sign; nobody else trusts this."""
        return CertificateFolder(self.folder / "loopback")

    def prepare(self) -> None:
        """Make a new secret; it holds for the processes that are started from here on."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(self.secret_file, secrets.token_bytes(32))

    def superlink(self, now: datetime) -> ChildProcess:
        """Return the coordinator's side; it keeps its state in the folder over restarts."""
        self.loopback.issue_server([LOOPBACK], now)
        return ChildProcess(
            name="superlink",
            function="flwr.superlink.cli:flower_superlink",
            log_file=self.folder / "superlink.log",
            argv=(
                *self._runtime_arguments(),
                *("--ssl-ca-certfile", str(self.loopback.authority)),
                *("--ssl-certfile", str(self.loopback.server)),
                *("--ssl-keyfile", str(self.loopback.server_key)),
                *("--database", str(self.folder / "state.db")),
                "--enable-supernode-auth",
                "--disable-runtime-dependency-installation",
            ),
            # It would note every poll of every node.
            environ={**self.environ(), "FLWR_LOG_LEVEL": "WARNING"},
        )

    def supernode(
        self, coordinator: str, authority: Path, private_key: Path, poll_s: float
    ) -> ChildProcess:
        """Return a site's side, which calls the coordinator every `poll_s` and is never called."""
        return ChildProcess(
            name="supernode",
            function="federation.deployment.flower:run_supernode",
            log_file=self.folder / "supernode.log",
            arguments=(coordinator, authority, private_key, self.folder / "node-id", poll_s),
            argv=(
                *self._runtime_arguments(),
                *("--superlink", coordinator),
                *("--root-certificates", str(authority)),
                *("--auth-supernode-private-key", str(private_key)),
            ),
            environ=self.environ(),
            last_status=SHUT_OUT_STATUS,
        )

    def environ(self) -> dict[str, str]:
        """Return what keeps Flower from calling out and from its user's home."""
        return {
            "FLWR_HOME": str(self.folder / "flower"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "OMP_NUM_THREADS": "1",
        }

    def _runtime_arguments(self) -> tuple[str, ...]:
        return (
            *("--host", LOOPBACK),
            *("--port", str(self.port)),
            *("--isolation", "process"),
            *("--superexec-auth-secret-file", str(self.secret_file)),
        )


def free_port() -> int:
    """Find a port of this machine that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
