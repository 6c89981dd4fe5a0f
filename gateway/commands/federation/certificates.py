"""`waypost federation certificates`: make what coordinator and nodes know each other by."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from gateway.commands.options import settings_option
from gateway.federation.paths import certificates_of
from gateway.settings.config import GatewaySettings

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _check_names(
    ctx: click.Context, param: click.Parameter, names: tuple[str, ...]
) -> tuple[str, ...]:
    del ctx, param
    for name in names:
        if not NAME.fullmatch(name):
            raise click.BadParameter(f"{name!r}: a name may have letters, digits, dots, - and _")
    return names


@click.command("certificates")
@settings_option
@click.option(
    "--host",
    "hosts",
    multiple=True,
    help="Host name or address of the coordinator, as nodes call it; may be repeated.",
)
@click.option(
    "--node",
    "nodes",
    multiple=True,
    callback=_check_names,
    help="Make a key pair for this node; may be repeated.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write to; the coordinator's own by default.",
)
def command(
    settings: GatewaySettings, hosts: tuple[str, ...], nodes: tuple[str, ...], out: Path | None
) -> None:
    """Make the coordinator's certificate for --host, and keys for each --node.

    A node's key that is there already is left alone, so nodes can be added at any time.
    """
    if not hosts and not nodes:
        raise click.UsageError(
            "give --host for the coordinator's certificate, --node for a node's keys, or both"
        )
    folder = certificates_of(settings, out)
    try:
        written = folder.issue_server(hosts, datetime.now(UTC)) if hosts else []
        for name in nodes:
            written += folder.make_node_key(name)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    for path in written:
        click.echo(f"wrote {path}")
    if nodes:
        click.echo(f"give each node its file of {folder.private_keys}, and {folder.authority}")
        click.echo("`waypost federation revoke NODE` shuts a node out again")
