"""The node's program: Flower's SuperNode, and the process that answers the coordinator."""

import logging
from pathlib import Path
from typing import Final

import click

from federation.deployment.programs import Program, free_port
from federation.deployment.supervisor import ChildProcess, RestartBackoff, Supervisor
from federation.errors import EndedForGood
from gateway.artifacts.store import router_store
from gateway.artifacts.trust import Trust
from gateway.federation.metrics import echo_metrics_url, exposed, read_children, read_node
from gateway.federation.paths import account_of, node_dir
from gateway.federation.process import run_until_stopped
from gateway.settings.config import GatewaySettings

logger = logging.getLogger(__name__)

PATIENT: Final = RestartBackoff(first_wait_s=1.0, last_wait_s=60.0)
"""Each start takes some 5 s of CPU time, and a coordinator that refuses seldom changes its mind."""


def take_part(
    settings: GatewaySettings, coordinator: str, authority: Path, private_key: Path
) -> None:
    """Run the node until it is stopped.

    Args:
        coordinator: Address of the coordinator.
        authority: The certificate that the coordinator's is checked against.
        private_key: What the coordinator knows this node by.

    Raises:
        ConfigurationError: Its key for signing cannot be read.
        ClickException: The coordinator has shut this node out.
        OSError: Its metrics cannot be listened for where the settings say.
    """
    node = settings.federation.node
    Trust.of(settings.artifacts).require_key()
    program = Program(node_dir(settings), free_port())
    program.prepare()
    role = "router_node" if node.reasoner.model is None else "reasoner_node"
    child = ChildProcess(
        name="node",
        function=f"gateway.federation.{role}:answer",
        log_file=program.folder / "node.log",
        arguments=(settings, program),
        environ=program.environ(),
    )
    supernode = program.supernode(coordinator, authority, private_key, node.poll_s)
    # Together: a SuperNode waits for ever for the answer of a process that is gone.
    children = Supervisor((supernode, child), logger.warning, PATIENT)
    readings = (
        read_children({"supernode": children, "node": children}),
        read_node(router_store(settings), account_of(settings)),
    )
    with exposed(node.metrics_host, node.metrics_port, *readings) as metrics_url:
        click.echo(f"  logs: {program.folder}")
        echo_metrics_url(metrics_url)
        click.echo(f"Waypost takes part as {node.name} through {coordinator}")
        try:
            run_until_stopped(children.run())
        except EndedForGood as error:
            raise click.ClickException(
                f"{coordinator} lets {node.name} in no more: {error} Start the node again when its "
                "key is let in again, or with a new key."
            ) from error
