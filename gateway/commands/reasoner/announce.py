"""`waypost reasoner announce`: an adapter on a vLLM server, offered as a model."""

from pathlib import Path

import click

from gateway.artifacts.store import adapter_store
from gateway.commands.artifact_kinds import explained
from gateway.commands.options import settings_option
from gateway.federation.reasoner.hosts import open_host
from gateway.federation.reasoner.names import require_free
from gateway.pool.adapter_hosts import HostRefused
from gateway.settings.config import GatewaySettings
from router_models.artifacts.adapter import load


@click.command("announce")
@settings_option
@click.argument("version")
@click.option(
    "--model", required=True, help="Model of the settings that the adapter was tuned from."
)
@click.option("--name", required=True, help="Name by which callers ask for it.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that vLLM loads adapters from; adapters/served in the data directory by default.",
)
@click.option("--server-folder", help="Path of that folder on the vLLM server's machine.")
def command(
    settings: GatewaySettings,
    version: str,
    model: str,
    name: str,
    folder: Path | None,
    server_folder: str | None,
) -> None:
    """Have a vLLM server load the adapter VERSION, and offer it to callers.

    vLLM must run with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, as the provider of
    MODEL. What had the name before is unloaded; announcing it again goes back to it. The same
    command mends a vLLM server that was started anew.
    """
    require_free(settings, name)
    with explained(HostRefused), open_host(settings, model, folder, server_folder) as host:
        adapter = load(adapter_store(settings).read(version))
        before = host.announce(adapter, name, model)
    click.echo(f"{name} is {version} on {model}; gateways offer it within a second or so")
    if before is not None and before.version != version:
        click.echo(f"before, it was {before.version}")
