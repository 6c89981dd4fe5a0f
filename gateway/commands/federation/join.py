"""`waypost federation join`: this gateway's node, beside it."""

import logging
from pathlib import Path
from typing import Final

import click

from federation.deployment.programs import Program, free_port
from federation.deployment.supervisor import ChildProcess, RestartBackoff, Supervisor
from gateway.artifacts.store import ArtifactStore
from gateway.commands.options import settings_option
from gateway.federation.exposing import exposed, read_children, read_node, tell_metrics
from gateway.federation.places import account_of, node_dir
from gateway.federation.running import log_to_stderr, run_until_stopped
from gateway.settings.config import ConfigurationError, GatewaySettings

logger = logging.getLogger(__name__)

PATIENT: Final = RestartBackoff(first_wait_s=1.0, last_wait_s=60.0)
"""Each start takes some 5 s of CPU time, and a coordinator that refuses seldom changes its mind."""


@click.command("join")
@settings_option
def command(settings: GatewaySettings) -> None:
    """Take part in a federation, with this gateway's evaluation log, until stopped."""
    log_to_stderr(settings)
    node = settings.federation.node
    if node.name is None or node.coordinator is None:
        raise ConfigurationError("federation.node: set name and coordinator")
    if node.reasoner.model is not None and (node.epsilon is not None or node.needs_secure_sum):
        raise ConfigurationError(
            "federation.node.reasoner.model: adapters are sent without noise and without masks, "
            "which epsilon and needs_secure_sum forbid; leave out the model, or those two"
        )
    authority = _file("authority", node.authority)
    private_key = _file("private_key", node.private_key)
    program = Program(node_dir(settings), free_port())
    program.prepare()
    answering = "answering" if node.reasoner.model is None else "reasoning"
    child = ChildProcess(
        name="node",
        function=f"gateway.federation.{answering}:answer",
        log_file=program.folder / "node.log",
        arguments=(settings, program),
        environ=program.environ(),
    )
    supernode = program.supernode(node.coordinator, authority, private_key, node.poll_s)
    # Together: a SuperNode waits for ever for the answer of a process that is gone.
    children = Supervisor((supernode, child), logger.warning, PATIENT)
    readings = (
        read_children({"supernode": children, "node": children}),
        read_node(ArtifactStore(settings.artifact_dir), account_of(settings)),
    )
    try:
        with exposed(node.metrics_host, node.metrics_port, *readings) as metrics_url:
            click.echo(f"  logs: {program.folder}")
            tell_metrics(metrics_url)
            click.echo(f"Waypost takes part as {node.name} through {node.coordinator}")
            run_until_stopped(children.run())
    except OSError as error:
        raise click.ClickException(
            f"federation.node.metrics_host: cannot listen at {node.metrics_host}: {error}"
        ) from error


def _file(key: str, path: Path | None) -> Path:
    if path is None or not path.is_file():
        raise ConfigurationError(
            f"federation.node.{key}: {'required' if path is None else f'no file {path}'}; "
            "the coordinator's operator makes the file with `waypost federation certificates`"
        )
    return path
