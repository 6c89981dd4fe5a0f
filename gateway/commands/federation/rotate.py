"""`waypost federation rotate`: give a node another key."""

from pathlib import Path

import click
from cryptography.exceptions import UnsupportedAlgorithm

from gateway.commands.options import settings_option
from gateway.federation.paths import certificates_of
from gateway.settings.config import GatewaySettings


@click.command("rotate")
@settings_option
@click.argument("node")
@click.option(
    "--key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The node's new public key, which it made itself; by default a pair is made here.",
)
def command(settings: GatewaySettings, node: str, key: Path | None) -> None:
    """Let NODE in by a new key, a revoked one too; its old key is refused from then on."""
    folder = certificates_of(settings)
    try:
        written = folder.rotate(node, key)
    except FileNotFoundError as error:
        raise click.ClickException(f"{node}: no such node in {folder.public_keys}") from error
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise click.ClickException(f"--key: {error}") from error
    for path in written:
        click.echo(f"wrote {path}")
    if key is None:
        click.echo(f"give the node its file of {folder.private_keys}, and restart it with that")
    click.echo("sites that pinned its old key in federation.node.members need the new one")
