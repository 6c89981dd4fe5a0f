"""`waypost federation join`: this gateway's node, beside it."""

from pathlib import Path

import click

from gateway.commands.options import settings_option
from gateway.federation.members import open_identity
from gateway.federation.node import take_part
from gateway.federation.process import log_to_stderr
from gateway.settings.config import ConfigurationError, GatewaySettings


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
    if node.needs_secure_sum and node.members is None:
        raise ConfigurationError(
            "federation.node.members: required by needs_secure_sum, the folder of the public keys "
            "of the sites that this one adds up with"
        )
    authority = _file("authority", node.authority)
    private_key = _file("private_key", node.private_key)
    open_identity(settings)
    try:
        take_part(settings, node.coordinator, authority, private_key)
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
