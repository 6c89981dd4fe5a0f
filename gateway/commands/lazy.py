"""A group of commands, each imported only when it is called.

Serving must not pay for torch, and what keeps a node's processes running must import neither that
nor Flower (https://click.palletsprojects.com/en/stable/complex/#lazily-loading-subcommands).
"""

from collections.abc import Mapping
from importlib import import_module
from keyword import iskeyword
from types import MappingProxyType
from typing import Any

import click

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
    "dp_accounting": "federation",
    "transformers": "reason",
    "peft": "reason",
    "gguf": "reason",
}


class LazyGroup(click.Group):
    """A group whose commands are modules of one package, each with a `command`.

    Args:
        package: Where the modules are.
        subcommands: Name of each command with one line of help.
        renamed: Old name of a command to its new one. An old name works, with a warning.
    """

    def __init__(
        self,
        *args: Any,
        package: str,
        subcommands: Mapping[str, str],
        renamed: Mapping[str, str] = MappingProxyType({}),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.package = package
        self.subcommands = subcommands
        self.renamed = renamed

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the subcommands in the order a newcomer meets them."""
        del ctx
        return list(self.subcommands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Take an old name for the new one, and say so on standard error."""
        old, *rest = args
        if old in self.renamed:
            new = self.renamed[old]
            path = ctx.command_path
            click.echo(f"`{path} {old}` is now called `{path} {new}`", err=True)
            args = [new, *rest]
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the subcommand `cmd_name`."""
        if cmd_name not in self.subcommands:
            return None
        name = cmd_name.replace("-", "_")
        module = f"{self.package}.{name}_" if iskeyword(name) else f"{self.package}.{name}"
        try:
            command: click.Command = import_module(module).command
        except ModuleNotFoundError as error:
            extra = EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            raise click.ClickException(
                f"`{ctx.command_path} {cmd_name}` needs {error.name}: "
                f"pip install 'waypost[{extra}]'"
            ) from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing any of them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(self.subcommands.items()))
