"""The coordinator's program: Flower's SuperLink, the process that runs sessions, and the gate."""

import asyncio
import logging
import time
from datetime import UTC, datetime

import click

from federation.deployment.gate import Gate, GateLimits
from federation.deployment.node_keys import WatchedKeys
from federation.deployment.programs import Program, free_port
from federation.deployment.supervisor import ChildProcess, Supervisor
from federation.errors import FederationError
from gateway.artifacts.trust import Trust
from gateway.federation.metrics import echo_metrics_url, exposed, read_children, read_sessions
from gateway.federation.paths import certificates_of, coordinator_dir, sessions_of
from gateway.federation.plan import plan_of
from gateway.federation.reasoner_plan import check_tuning
from gateway.settings.config import ConfigurationError, GatewaySettings

logger = logging.getLogger(__name__)


def check(settings: GatewaySettings) -> None:
    """Refuse settings that no session could be run with.

    Raises:
        ConfigurationError: They name no plan, or none for a reasoning model that is to be tuned.
    """
    try:
        plan_of(settings)
        if settings.federation.coordinator.reasoner.model is not None:
            check_tuning(settings)
    except (TypeError, ValueError, FederationError) as error:
        raise ConfigurationError(f"federation.coordinator: {error}") from error


async def coordinate(settings: GatewaySettings) -> None:
    """Run the coordinator until cancelled.

    Raises:
        ConfigurationError: Its key for signing cannot be read.
        OSError: It cannot listen where the settings say.
    """
    coordinator, certificates = settings.federation.coordinator, certificates_of(settings)
    Trust.of(settings.artifacts).require_key()
    program = Program(coordinator_dir(settings), free_port())
    program.prepare()
    superlink = program.superlink(datetime.now(UTC))
    sessions = "router_sessions" if coordinator.reasoner.model is None else "reasoner_sessions"
    conductor = ChildProcess(
        name="conductor",
        function=f"gateway.federation.{sessions}:conduct",
        log_file=program.folder / "conductor.log",
        arguments=(settings, program),
        environ=program.environ(),
    )
    gate = Gate(
        upstream=f"https://{program.address}",
        authority=program.loopback.authority,
        keys=WatchedKeys(certificates.public_keys, time.monotonic),
        clock=lambda: datetime.now(UTC),
        limits=GateLimits.of(coordinator.max_body_bytes),
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
            echo_metrics_url(metrics_url)
            click.echo(f"Waypost coordinates at {coordinator.host}:{port}")
            for group in groups.values():
                tasks.create_task(group.run())
