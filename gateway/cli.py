"""The `waypost` command: a table of subcommands, each imported only when it is called.

Serving must not pay for torch, and training must not need a web server, so every subcommand is a
module of its own (https://click.palletsprojects.com/en/stable/complex/#lazily-loading-subcommands).
"""

import os
import sys
from importlib import import_module
from typing import Any

import click

from gateway.config import ConfigurationError

SUBCOMMANDS = {
    "serve": "Run the gateway.",
    "route": "Show which model the router would choose for a query.",
    "train": "Train a router from the evaluation log or a table.",
    "evaluate": "Measure routers: accuracy against cost.",
    "frontier": "Measure the serving router and a candidate on the log.",
    "calibrate": "Onboard a model by asking it verifiable prompts.",
    "router": "List, activate and roll back router artefacts.",
    "policy": "List, activate and roll back budget policies.",
    "federation": "Train one router with other organisations.",
    "keys": "Create, list and revoke virtual keys.",
    "teams": "Create and list teams.",
    "budget": "Train and measure policies for the tokens of each turn.",
    "budgets": "Cap what teams, keys, users and conversations may spend.",
    "log": "Export and prune the evaluation log.",
    "database": "Create or upgrade the database schema.",
}
EXTRAS = {
    "torch": "train",
    "sklearn": "train",
    "pyarrow": "train",
    "matplotlib": "train",
    "redis": "redis",
    "hiredis": "redis",
    "xllamacpp": "embedded",
    "psycopg": "postgres",
    "onnxruntime": "accurate",
    "tqdm": "train",
    "flwr": "federation",
    "cryptography": "federation",
    "dp_accounting": "federation",
    "transformers": "reason",
    "peft": "reason",
    "gguf": "reason",
}


class LazyGroup(click.Group):
    """A group whose commands are modules of `gateway.commands`, each with a `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the subcommands in the order a newcomer meets them."""
        del ctx
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the subcommand `cmd_name`."""
        del ctx
        if cmd_name not in SUBCOMMANDS:
            return None
        try:
            command: click.Command = import_module(f"gateway.commands.{cmd_name}").command
        except ModuleNotFoundError as error:
            extra = EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            raise click.ClickException(
                f"`waypost {cmd_name}` needs {error.name}: pip install 'waypost[{extra}]'"
            ) from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing any of them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(SUBCOMMANDS.items()))


@click.group(cls=LazyGroup)
@click.version_option(package_name="waypost")
def cli() -> None:
    """Waypost: an OpenAI-compatible gateway that learns which model to ask."""


SINGLE_THREADED = {
    "OPENBLAS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""A router's matrices and a query's text are too small to share out between threads."""


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
