"""`waypost serve`: run the gateway, and its admin side on a port of its own."""

import asyncio
import gc
import logging
import math
import signal
from contextlib import nullcontext
from typing import Any

import click
import uvicorn

from gateway.app import Gateway, open_gateway
from gateway.commands.options import settings_option
from gateway.config import ConfigurationError, GatewaySettings, ServerSettings, process_environment
from gateway.startup import Startup, prepare
from router_models.errors import ArtifactRejected

KEEP_ALIVE_S = 75
"""Longer than SDKs keep an idle connection, so that they and not we close it under a request."""


@click.command()
@settings_option
@click.option("--host", help="Address for callers; server.host by default.")
@click.option("--port", type=click.IntRange(0, 65535), help="0 picks a free port.")
@click.option("--admin-port", type=click.IntRange(0, 65535), help="0 picks a free port.")
def command(
    settings: GatewaySettings, host: str | None, port: int | None, admin_port: int | None
) -> None:
    """Run the gateway until it is told to stop."""
    given = {"host": host, "port": port, "admin_port": admin_port}
    update = {name: value for name, value in given.items() if value is not None}
    server = settings.server.model_copy(update=update)
    settings = settings.model_copy(update={"server": server})
    logging.basicConfig(
        level=server.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    startup = prepare(settings)
    if startup.new_key is not None:
        # At once: should this start fail further on, the next one makes no other key.
        click.echo(f"  your key, shown only now: {startup.new_key}")
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(settings, startup))
    except ArtifactRejected as error:
        raise ConfigurationError(f"the active router cannot be used: {error}") from error
    finally:
        startup.engine.dispose()


def _loop_factory() -> Any:
    return uvicorn.Config(None, log_config=None).get_loop_factory()  # type: ignore[arg-type]


async def _serve(settings: GatewaySettings, startup: Startup) -> None:
    async with open_gateway(settings, process_environment(), startup) as gateway:
        server = settings.server
        public = _EmbeddableServer(_config(server, gateway.public, server.host, server.port))
        admin = _EmbeddableServer(
            _config(server, gateway.admin, server.admin_host, server.admin_port)
        )
        loop = asyncio.get_running_loop()

        def stop() -> None:
            # The second signal ends at once, as uvicorn's own handler does.
            public.force_exit = gateway.readiness.is_leaving
            gateway.readiness.is_leaving = True
            loop.call_later(0 if public.force_exit else server.drain_s, public.close)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_serve_callers(public, admin))
            tasks.create_task(admin.serve())
            tasks.create_task(_announce(startup, gateway, public, admin))


async def _serve_callers(public: "_EmbeddableServer", admin: "_EmbeddableServer") -> None:
    """Serve callers until the last answer is out; until then the metrics can be read."""
    await public.serve()
    admin.close()


async def _announce(
    startup: Startup, gateway: Gateway, public: "_EmbeddableServer", admin: "_EmbeddableServer"
) -> None:
    """Tell the operator, once both ports listen, where and what is served."""
    await asyncio.gather(public.listening.wait(), admin.listening.wait())
    _settle_garbage_collection()
    for note in gateway.pool.notes:
        click.echo(f"  note: {note}")
    click.echo(f"  models: {', '.join(gateway.pool.models)}")
    click.echo(f"  router: {gateway.router_version or 'none yet; the default model serves'}")
    click.echo(f"  admin and metrics: {admin.url}  (token: {startup.admin_token_source})")
    click.echo(f"Waypost serves {public.url}/v1")


def _settle_garbage_collection() -> None:
    """Keep what the start made out of every later collection, and collect seldom.

    A request leaves few cycles; with Python's own threshold of 700 objects the collector took 12 to
    21 % of the CPU time and walked 148,000 objects in the middle of a request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _config(server: ServerSettings, app: Any, host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # nobody asks for the client's address
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(server.shutdown_grace_s),
    )


class _EmbeddableServer(uvicorn.Server):
    """One of several servers of this process: signals are handled for all of them together."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    def close(self) -> None:
        """Take no more connections, and end when the answers under way are out."""
        self.should_exit = True

    def capture_signals(self) -> Any:
        """Leave the signals to `_serve`."""
        return nullcontext()

    async def startup(self, sockets: Any = None) -> None:
        """Note when the port is open."""
        await super().startup(sockets)
        self.listening.set()

    @property
    def url(self) -> str:
        """Where this server listens; the real port where 0 was asked for."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
