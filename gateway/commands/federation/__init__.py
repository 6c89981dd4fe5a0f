"""`waypost federation`: one router with other organisations, without showing them queries."""

from typing import Final

import click

from gateway.commands.lazy import LazyGroup

SUBCOMMANDS: Final = {
    "certificates": "Make the coordinator's certificate, and keys for nodes.",
    "coordinator": "Run the federation's coordinator until it is told to stop.",
    "join": "Take part in a federation, with this gateway's evaluation log.",
    "train": "Ask the coordinator of this data directory for a training now.",
    "status": "Show how the latest trainings of this coordinator went.",
}


@click.group(cls=LazyGroup, package=__name__, subcommands=SUBCOMMANDS)
def command() -> None:
    """Train one router with other organisations, without showing them queries."""
