"""`waypost reasoner evaluate`: how much of a task a model can do, with and without adapters."""

from functools import partial
from pathlib import Path

import click

from gateway.artifacts.store import adapter_store
from gateway.commands.artifact_kinds import explained
from gateway.commands.options import settings_option
from gateway.federation.reasoner.bases import base_options, gather_prompts, open_base
from gateway.federation.reasoner.evaluation import accuracies, measure, tasks_of
from gateway.settings.config import GatewaySettings
from router_models.artifacts.adapter import load


@click.command("evaluate")
@settings_option
@click.argument("versions", nargs=-1)
@click.option(
    "--prompts",
    "file",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="JSON Lines of prompts with verifiers, none of which was trained on.",
)
@base_options
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Longer answers are cut off.",
)
def command(
    *,
    settings: GatewaySettings,
    versions: tuple[str, ...],
    file: Path,
    base: str | None,
    device: str | None,
    max_new_tokens: int,
) -> None:
    """Answer prompts greedily by the base model and by it with each adapter of VERSIONS.

    Accuracy with 95 % intervals (Wilson's), of each task that the prompts name and of all.
    """
    store = adapter_store(settings)
    with explained():
        adapters = [load(store.read(version)) for version in versions]
    prompts = gather_prompts(settings, file)
    opened = open_base(settings, base, device)
    tasks = tasks_of(prompts)
    say = partial(click.echo, err=True)
    width = max(len(name) for name in ("base", *versions))
    click.echo("  ".join([" " * width, *(f"{task:>21}" for task in tasks)]))
    scores = measure(opened, None, prompts, max_new_tokens, say)
    click.echo(_line("base", width, accuracies(scores, prompts, tasks)))
    for adapter in adapters:
        with explained(ValueError):
            scores = measure(opened, adapter, prompts, max_new_tokens, say)
        click.echo(_line(adapter.version, width, accuracies(scores, prompts, tasks)))


def _line(name: str, width: int, cells: list[str]) -> str:
    return "  ".join([f"{name:{width}}", *cells])
