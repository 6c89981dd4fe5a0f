"""`waypost federation`: one router with other organisations, without showing them queries."""

import click

from gateway.commands.federation.certificates import make_certificates
from gateway.commands.federation.coordinator import run_coordinator
from gateway.commands.federation.join import join_federation
from gateway.commands.federation.sessions import show_status, train_now


@click.group()
def command() -> None:
    """Train one router with other organisations, without showing them queries."""


for subcommand in (make_certificates, run_coordinator, join_federation, train_now, show_status):
    command.add_command(subcommand)
