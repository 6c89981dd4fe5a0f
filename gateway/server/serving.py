"""One process that serves: the callers' port, the operators' port, and how both end."""

import asyncio
import gc
import math
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvicorn

from gateway.app import Gateway
from gateway.server.connections import (
    SWEEP_S,
    ConnectionLimits,
    Connections,
    LimitedHttpProtocol,
)
from gateway.settings.config import ServerSettings

BACKLOG = 2048
WANTED_FILES = 65_536
ADMIN_CONNECTIONS = 256
SWEEP_TICKS = round(SWEEP_S / 0.1)  # uvicorn ticks ten times a second


@dataclass(frozen=True, slots=True)
class Ports:
    """The two sockets that a gateway listens on."""

    public: socket.socket
    admin: socket.socket

    @classmethod
    def listen(cls, server: ServerSettings) -> "Ports":
        """Listen where the settings say.

        Raises:
            OSError: A port is taken, or the address is not this machine's.
        """
        public = _listen(server.host, server.port)
        try:
            return cls(public, _listen(server.admin_host, server.admin_port))
        except OSError:
            public.close()
            raise

    def close(self) -> None:
        """Stop listening, as far as this process is concerned."""
        self.public.close()
        self.admin.close()

    @property
    def public_url(self) -> str:
        """Where callers come; the real port where 0 was asked for."""
        return _url(self.public)

    @property
    def admin_url(self) -> str:
        """Where operators come."""
        return _url(self.admin)


def heeded() -> Iterator[signal.Signals]:
    """List the signals that tell a process to stop; a terminal that closes sends SIGHUP.

    It is left ignored where it is, as `nohup` has it.
    """
    yield from (signal.SIGINT, signal.SIGTERM)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        yield signal.SIGHUP


async def serve(
    gateway: Gateway,
    server: ServerSettings,
    ports: Ports,
    on_listening: Callable[[], None],
    stops: Iterable[signal.Signals],
) -> None:
    """Serve until told to stop by one of the signals, and until the last answer is out."""
    _allow_many_files()
    public = _EmbeddableServer(server, gateway.public, server.max_connections, 1 / 2)
    admin = _EmbeddableServer(server, gateway.admin, ADMIN_CONNECTIONS, 1 / 8)
    public.connections.count_in(gateway.connections["public"])
    admin.connections.count_in(gateway.connections["admin"])
    loop = asyncio.get_running_loop()

    def stop() -> None:
        # The second signal ends at once, as uvicorn's own handler does.
        public.force_exit = gateway.readiness.is_leaving
        gateway.readiness.is_leaving = True
        loop.call_later(0 if public.force_exit else server.drain_s, public.close)

    for number in stops:
        loop.add_signal_handler(number, stop)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_serve_callers(public, admin, ports.public))
        tasks.create_task(admin.serve([ports.admin]))
        tasks.create_task(_announce(public, admin, on_listening))


async def _serve_callers(
    public: "_EmbeddableServer", admin: "_EmbeddableServer", port: socket.socket
) -> None:
    """Serve callers until the last answer is out; until then the metrics can be read."""
    await public.serve([port])
    admin.close()


async def _announce(
    public: "_EmbeddableServer", admin: "_EmbeddableServer", on_listening: Callable[[], None]
) -> None:
    await asyncio.gather(public.listening.wait(), admin.listening.wait())
    _settle_garbage_collection()
    on_listening()


def loop_factory() -> Any:
    """Return what makes the fastest event loop there is."""
    return uvicorn.Config(None, log_config=None).get_loop_factory()  # type: ignore[arg-type]


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _settle_garbage_collection() -> None:
    """Keep what the start made out of every later collection, and collect seldom.

    A request leaves few cycles; with Python's own threshold of 700 objects the collector took 12 to
    21 % of the CPU time and walked 148,000 objects in the middle of a request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _allow_many_files() -> None:
    """Raise this process's own limit of open files, often 1,024, as far as it may."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if most == resource.RLIM_INFINITY else min(WANTED_FILES, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        with suppress(ValueError, OSError):  # macOS has a lower limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _config(server: ServerSettings, app: Any, connections: Connections) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=partial(LimitedHttpProtocol, connections),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # nobody asks for the client's address
        timeout_keep_alive=math.ceil(server.idle_timeout_s),
        timeout_graceful_shutdown=math.ceil(server.shutdown_grace_s),
    )


class _EmbeddableServer(uvicorn.Server):
    """One of several servers of this process: signals are handled for all of them together."""

    def __init__(
        self, server: ServerSettings, app: Any, max_connections: int, max_share_of_files: float
    ) -> None:
        limits = ConnectionLimits.of(server, max_connections, max_share_of_files)
        self.connections = Connections(limits)
        super().__init__(_config(server, app, self.connections))
        self.listening = asyncio.Event()

    def close(self) -> None:
        """Take no more connections, and end when the answers under way are out."""
        self.should_exit = True

    def capture_signals(self) -> Any:
        """Leave the signals to `serve`."""
        return nullcontext()

    async def on_tick(self, counter: int) -> bool:
        """Look after the connections about once a second."""
        if counter % SWEEP_TICKS == 0:
            self.connections.sweep(time.monotonic())
        return await super().on_tick(counter)

    async def startup(self, sockets: Any = None) -> None:
        """Note when the port is served."""
        await super().startup(sockets)
        self.listening.set()
