"""`waypost federation coordinator`: what nodes call, and what conducts trainings."""

import asyncio
import logging
import ssl
import time
from datetime import UTC, datetime

import click

from federation.deployment.gate import Gate, GateLimits
from federation.deployment.node_keys import WatchedKeys
from federation.deployment.programs import Program, free_port
from federation.deployment.supervisor import ChildProcess, Supervisor
from federation.errors import FederationError
from gateway.commands.options import settings_option
from gateway.federation.exposing import exposed, read_children, read_sessions, tell_metrics
from gateway.federation.places import certificates_of, coordinator_dir, sessions_of
from gateway.federation.planning import plan_of
from gateway.federation.running import log_to_stderr, run_until_stopped
from gateway.federation.tuning_plan import check_tuning
from gateway.settings.config import ConfigurationError, GatewaySettings

logger = logging.getLogger(__name__)


@click.command("coordinator")
@settings_option
def command(settings: GatewaySettings) -> None:
    """Run the federation's coordinator until it is stopped."""
    log_to_stderr(settings)
    coordinator = settings.federation.coordinator
    try:
        plan_of(settings)
        if coordinator.reasoner.model is not None:
            check_tuning(settings)
    except (TypeError, ValueError, FederationError) as error:
        raise ConfigurationError(f"federation.coordinator: {error}") from error
    certificates = certificates_of(settings)
    if not certificates.server_key.exists():
        raise ConfigurationError(
            f"federation.coordinator.certificates: no certificate in {certificates.folder}; make "
            "one with "
            "`waypost federation certificates --host NAME`"
        )
    try:
        run_until_stopped(_coordinate(settings))
    except (OSError, ssl.SSLError) as error:
        raise click.ClickException(
            f"federation.coordinator.host: cannot listen at {coordinator.host}: {error}"
        ) from error


async def _coordinate(settings: GatewaySettings) -> None:
    coordinator, certificates = settings.federation.coordinator, certificates_of(settings)
    program = Program(coordinator_dir(settings), free_port())
    program.prepare()
    superlink = program.superlink(datetime.now(UTC))
    conducting = "conducting" if coordinator.reasoner.model is None else "tuning"
    conductor = ChildProcess(
        name="conductor",
        function=f"gateway.federation.{conducting}:conduct",
        log_file=program.folder / "conductor.log",
        arguments=(settings, program),
        environ=program.environ(),
    )
    gate = Gate(
        upstream=f"https://{program.address}",
        authority=program.loopback.authority,
        keys=WatchedKeys(certificates.public_keys, time.monotonic),
        clock=lambda: datetime.now(UTC),
        limits=GateLimits(max_body_bytes=coordinator.max_body_bytes),
    )
    # Apart: Flower's side keeps its state on disk, so either may be replaced alone.
    groups = {child.name: Supervisor((child,), logger.warning) for child in (superlink, conductor)}
    readings = read_children(groups), read_sessions(sessions_of(settings))
    with exposed(coordinator.metrics_host, coordinator.metrics_port, *readings) as metrics_url:
        async with (
            gate.listen(
                coordinator.host, coordinator.port, certificates.server, certificates.server_key
            ) as port,
            asyncio.TaskGroup() as tasks,
        ):
            click.echo(f"  logs: {program.folder}")
            click.echo(f"  nodes: {certificates.public_keys}")
            tell_metrics(metrics_url)
            click.echo(f"Waypost coordinates at {coordinator.host}:{port}")
            for group in groups.values():
                tasks.create_task(group.run())
