"""The `waypost` command: a table of subcommands, each imported only when it is called."""

import os
import sys
from typing import Any

import click

from gateway.commands.lazy import LazyGroup
from gateway.settings.config import ConfigurationError

SUBCOMMANDS = {
    "serve": "Run the gateway.",
    "route": "Show which model the router would choose for a query.",
    "import": "Turn results of other evaluation tools into a table to train on.",
    "train": "Train a router from the evaluation log or a table.",
    "evaluate": "Measure the quality and cost of routers on a table.",
    "frontier": "Estimate quality and cost of the active router and a candidate from the log.",
    "judges": "Measure the models that grade answers.",
    "learn": "Train routers from the log as it grows, and let the better ones serve.",
    "calibrate": "Measure a new model by prompts whose answers can be verified.",
    "router": "List, activate and roll back router artefacts.",
    "policy": "List, activate and roll back budget policies.",
    "artifacts": "Make keys, and sign and verify routers, budget policies and adapters.",
    "reasoner": "Tune a language model on prompts whose answers can be verified, and serve it.",
    "federation": "Train one router with other organisations.",
    "keys": "Create, list and revoke virtual keys.",
    "teams": "Create and list teams.",
    "turn-policy": "Train and measure policies for the tokens of each turn.",
    "budgets": "Limit what teams, keys, users and conversations may spend.",
    "spend": "Show what was spent, by team, key, user, model, task or day.",
    "openapi": "Print the callers' API as an OpenAPI document.",
    "log": "Show turns of the evaluation log, export and prune it.",
    "database": "Create or upgrade the database schema.",
}
RENAMED = {"budget": "turn-policy"}


@click.group(cls=LazyGroup, package="gateway.commands", subcommands=SUBCOMMANDS, renamed=RENAMED)
@click.version_option(package_name="waypost")
def cli() -> None:
    """Waypost: an OpenAI-compatible gateway that learns which model to ask."""


SINGLE_THREADED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""A router's matrices and a query's text are too small to share out between threads: those of
OpenMP wait for each other busily, and tuning K-means took eight times its CPU time."""


def main(*args: Any, **kwargs: Any) -> None:
    """Run the command line; settings that cannot be used end it with their message."""
    # Read by the libraries when they are first imported, which no line above does.
    for name, value in SINGLE_THREADED.items():
        os.environ.setdefault(name, value)
    try:
        cli(*args, **kwargs)
    except ConfigurationError as error:
        click.echo(f"waypost: {error}", err=True)
        sys.exit(2)
