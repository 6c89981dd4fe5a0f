"""`waypost federation revoke`: shut a node out."""

import click

from gateway.commands.options import settings_option
from gateway.federation.paths import certificates_of
from gateway.settings.config import GatewaySettings


@click.command("revoke")
@settings_option
@click.argument("node")
def command(settings: GatewaySettings, node: str) -> None:
    """Shut NODE out: a running coordinator refuses its next call within about a second."""
    folder = certificates_of(settings)
    try:
        renamed = folder.revoke(node)
    except OSError as error:
        raise click.ClickException(f"{node}: no such node in {folder.public_keys}") from error
    for path in renamed:
        click.echo(f"the key is now in {path.name}, which lets nobody in")
    click.echo("sites that pinned it in federation.node.members must remove it there")
