"""`waypost reasoner`: tune a language model on answers that can be verified, and serve it."""

from typing import Final

import click

from gateway.commands.lazy import LazyGroup

SUBCOMMANDS: Final = {
    "prompts": "Write the prompts of the log whose answers were verified.",
    "train": "Tune a model on verifiable prompts, on this machine alone.",
    "evaluate": "Measure a model with and without adapters.",
    "adapters": "List, show, import and export adapters.",
    "announce": "Have a vLLM server load an adapter, and offer it to callers as a model.",
    "embed": "Offer an adapter to callers as a model of the embedded pool.",
    "withdraw": "Stop offering an adapter.",
}


@click.group(cls=LazyGroup, package=__name__, subcommands=SUBCOMMANDS)
def command() -> None:
    """Tune a language model on answers that can be verified, and serve it."""
