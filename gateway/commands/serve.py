"""`waypost serve`: run the gateway, and its admin side on a port of its own."""

import asyncio
import ctypes
import signal
import sys
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from typing import Any

import click

from gateway.app import Gateway, open_gateway
from gateway.commands.options import settings_option
from gateway.learning.child import learner_beside
from gateway.long_work import SWITCH_S
from gateway.server.allocator import map_large_buffers
from gateway.server.serving import Ports, heeded, loop_factory, serve
from gateway.server.workers import Workers, check_settings
from gateway.settings.config import ConfigurationError, GatewaySettings, process_environment
from gateway.startup import Startup, first_key_line, open_prepared, prepare
from gateway.telemetry.log_lines import log_to_stderr
from gateway.telemetry.worker_metrics import WorkerMetrics
from router_models.errors import ArtifactRejected


@click.command()
@settings_option
@click.option("--host", help="Address of the API for callers; server.host by default.")
@click.option("--port", type=click.IntRange(0, 65535), help="0 picks a free port.")
@click.option(
    "--workers", type=click.IntRange(1, 64), help="Number of processes; server.workers by default."
)
@click.option("--admin-port", type=click.IntRange(0, 65535), help="0 picks a free port.")
def command(
    settings: GatewaySettings,
    host: str | None,
    port: int | None,
    workers: int | None,
    admin_port: int | None,
) -> None:
    """Run the gateway until it is told to stop."""
    given = {"host": host, "port": port, "workers": workers, "admin_port": admin_port}
    update = {name: value for name, value in given.items() if value is not None}
    server = settings.server.model_copy(update=update)
    settings = settings.model_copy(update={"server": server})
    check_settings(settings)
    log_to_stderr(settings.server)
    startup = prepare(settings)
    try:
        if server.workers == 1:
            with learner_beside(settings):
                _run(_serve_alone(settings, startup))
            return
    finally:
        startup.engine.dispose()
    with learner_beside(settings):
        status = _serve_with_workers(settings, startup)
    sys.exit(status)


async def _serve_alone(settings: GatewaySettings, startup: Startup) -> None:
    async with open_gateway(settings, process_environment(), startup) as gateway:
        ports = _listen(settings)
        await serve(
            gateway,
            settings.server,
            ports,
            lambda: _announce(settings, startup, _lines_of(gateway), ports),
            heeded(),
        )


def _serve_with_workers(settings: GatewaySettings, startup: Startup) -> int:
    ports = _listen(settings)
    count = f"  workers: {settings.server.workers}"
    workers = Workers(
        settings,
        ports,
        work,
        lambda lines: _announce(settings, startup, [*lines, count], ports),
    )
    return workers.run()


def work(settings: GatewaySettings, ports: Ports, metrics: WorkerMetrics, tell: Connection) -> None:
    """Serve as one of several workers; sends the lines that announce it once it does."""
    log_to_stderr(settings.server)
    startup = open_prepared(settings)
    try:
        _run(_serve_as_worker(settings, startup, ports, metrics, tell.send))
    except ConfigurationError as error:
        click.echo(f"waypost: {error}", err=True)
        sys.exit(2)
    finally:
        startup.engine.dispose()


async def _serve_as_worker(
    settings: GatewaySettings,
    startup: Startup,
    ports: Ports,
    metrics: WorkerMetrics,
    tell: Callable[[list[str]], None],
) -> None:
    async with open_gateway(settings, process_environment(), startup, metrics) as gateway:
        stops = [signal.SIGTERM]  # from the parent
        await serve(gateway, settings.server, ports, lambda: tell(_lines_of(gateway)), stops)


def _run(serving: Coroutine[Any, Any, None]) -> None:
    map_large_buffers(ctypes.CDLL(None))
    sys.setswitchinterval(SWITCH_S)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serving)
    except ArtifactRejected as error:
        raise ConfigurationError(
            f"the active router cannot be used, so the default model answers `auto`: {error}"
        ) from error


def _listen(settings: GatewaySettings) -> Ports:
    try:
        return Ports.listen(settings.server)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigurationError(
            f"server.host and server.port, or server.admin_host and server.admin_port: {reason}"
        ) from error


def _lines_of(gateway: Gateway) -> list[str]:
    _, problem = gateway.budgets.problem()
    return [
        *(f"  note: {note}" for note in gateway.pool.notes),
        *([] if problem is None else [f"  warning: {problem}"]),
        f"  models: {', '.join(gateway.pool.models)}",
        f"  router: {gateway.router_version or 'none yet; the default model serves'}",
    ]


def _announce(settings: GatewaySettings, startup: Startup, lines: list[str], ports: Ports) -> None:
    """Tell the operator, once both ports listen, where and what is served."""
    is_terminal = sys.stdout.isatty()
    first_key = first_key_line(startup.engine, settings.data_dir, is_terminal=is_terminal)
    if first_key is not None:
        click.echo(f"  {first_key}")
    for line in lines:
        click.echo(line)
    click.echo(f"  admin and metrics: {ports.admin_url}  (token: {startup.admin_token_source})")
    click.echo(f"Waypost serves {ports.public_url}/v1")
