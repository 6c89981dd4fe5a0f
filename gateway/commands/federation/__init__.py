"""`waypost federation`: one router with other organisations, without showing them queries."""

from typing import Final

import click

from gateway.commands.lazy import LazyGroup

SUBCOMMANDS: Final = {
    "certificates": "Make the coordinator's certificate and the nodes' keys.",
    "coordinator": "Run the federation's coordinator until it is stopped.",
    "join": "Take part in a federation, with this gateway's evaluation log.",
    "revoke": "Shut a node out of the federation, without a restart.",
    "rotate": "Let a node in by a new key instead of its old one.",
    "train": "Have the coordinator of this data directory start a training now.",
    "status": "Show the latest trainings of this coordinator and their results.",
}


@click.group(cls=LazyGroup, package=__name__, subcommands=SUBCOMMANDS)
def command() -> None:
    """Train one router with other organisations, without showing them queries."""
