"""`waypost federation coordinator`: what nodes call, and what conducts trainings."""

import ssl

import click

from gateway.commands.options import settings_option
from gateway.federation.coordinator import check, coordinate
from gateway.federation.paths import certificates_of
from gateway.federation.process import log_to_stderr, run_until_stopped
from gateway.settings.config import ConfigurationError, GatewaySettings


@click.command("coordinator")
@settings_option
def command(settings: GatewaySettings) -> None:
    """Run the federation's coordinator until it is stopped."""
    log_to_stderr(settings)
    coordinator = settings.federation.coordinator
    check(settings)
    certificates = certificates_of(settings)
    if not certificates.server_key.exists():
        raise ConfigurationError(
            f"federation.coordinator.certificates: no certificate in {certificates.folder}; make "
            "one with `waypost federation certificates --host NAME`"
        )
    try:
        run_until_stopped(coordinate(settings))
    except (OSError, ssl.SSLError) as error:
        raise click.ClickException(
            f"federation.coordinator.host: cannot listen at {coordinator.host}: {error}"
        ) from error
