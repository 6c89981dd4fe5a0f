"""`waypost reasoner train`: GRPO with LoRA adapters on verifiable prompts, without a federation."""

from pathlib import Path
from typing import Any

import click

from gateway.artifacts.store import adapter_store
from gateway.commands.artifact_kinds import explained
from gateway.commands.options import settings_option
from gateway.federation.reasoner.bases import base_options, gather_prompts, open_base
from gateway.federation.reasoner.local_training import mean_reward, tune
from gateway.federation.reasoner.rollouts import Place
from gateway.pool.adapter_hosts import HostRefused
from gateway.settings.config import GatewaySettings


@click.command("train")
@settings_option
@click.argument("prompts", type=click.Path(path_type=Path, exists=True), required=False)
@base_options
@click.option(
    "--steps", type=click.IntRange(1), default=60, show_default=True, help="Steps of training."
)
@click.option(
    "--rank",
    "lora_rank",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Rank of the adapter; a larger one can learn more and takes more memory.",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    default=5e-5,
    show_default=True,
    help="Step size of the optimizer.",
)
@click.option(
    "--prompts-per-step",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Prompts of one step; more of them make training steadier and slower.",
)
@click.option(
    "--group-size",
    type=click.IntRange(2),
    default=8,
    show_default=True,
    help="Answers drawn for each prompt.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Longer answers are cut off.",
)
@click.option("--seed", type=int, default=0, help="The same seed gives the same adapter.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Checkpoint, written after every step; a run that was stopped resumes from it.",
)
@click.option(
    "--rollouts-on",
    help="Draw answers on the vLLM server of this model of the settings, the base model.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="With --rollouts-on: as in `waypost reasoner announce`.",
)
@click.option("--server-folder", help="Likewise.")
def command(
    *,
    settings: GatewaySettings,
    prompts: Path | None,
    base: str | None,
    device: str | None,
    steps: int,
    seed: int,
    checkpoint: Path | None,
    rollouts_on: str | None,
    folder: Path | None,
    server_folder: str | None,
    **choices: Any,
) -> None:
    """Tune a model on PROMPTS, a JSON Lines file of prompts with verifiers.

    Without PROMPTS those of the log are learned from, of teams that opted in. What comes of it is
    an adapter in the data directory; `waypost reasoner evaluate` measures it.
    """
    found = gather_prompts(settings, prompts)
    opened = open_base(settings, base, device)
    place = Place(rollouts_on, folder, server_folder)
    with explained(ValueError, HostRefused):
        data, figures = tune(
            settings, opened, found, place, choices, steps=steps, seed=seed, checkpoint=checkpoint
        )
        manifest = adapter_store(settings).put_own(data)
    first, last = mean_reward(figures[:10]), mean_reward(figures[-10:])
    click.echo(f"mean reward {first:.3f} in the first ten steps, {last:.3f} in the last ten")
    click.echo(f"made {manifest.version}; waypost reasoner evaluate {manifest.version} measures it")
