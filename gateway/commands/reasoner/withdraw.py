"""`waypost reasoner withdraw`: an adapter that is offered no longer."""

import click

from gateway.artifacts.store import adapter_store
from gateway.commands.artifact_kinds import explained
from gateway.commands.options import settings_option
from gateway.federation.reasoner.hosts import open_host
from gateway.pool.adapter_hosts import HostRefused
from gateway.pool.announcements import AnnouncementFile
from gateway.settings.config import GatewaySettings


@click.command("withdraw")
@settings_option
@click.argument("name")
def command(settings: GatewaySettings, name: str) -> None:
    """Offer NAME no longer, and have its vLLM server unload the adapter."""
    announced = AnnouncementFile(adapter_store(settings).folder)
    with explained(HostRefused):
        found = next((one for one in announced.read() if one.name == name), None)
        if found is None or found.model not in settings.models:
            announced.remove(name)
        else:
            with open_host(settings, found.model) as host:
                host.withdraw(name)
    click.echo(f"{name} is offered no longer")
