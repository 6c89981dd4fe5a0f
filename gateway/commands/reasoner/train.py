"""`waypost reasoner train`: GRPO with LoRA adapters on verifiable prompts, without a federation."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from federation.reasoner.figures import StepFigures
from federation.reasoner.lora import attach_lora
from federation.reasoner.prompts import Prompt
from federation.reasoner.server_sampler import SamplerUnavailable
from federation.reasoner.settings import ReasonerSettings
from federation.reasoner.trainer import Learner
from gateway.artifacts.store import adapter_store
from gateway.commands.artifact_kinds import explained
from gateway.commands.options import settings_option
from gateway.federation.reasoner.bases import base_options, gather_prompts, open_base
from gateway.federation.reasoner.local_training import LocalTraining
from gateway.federation.reasoner.rollouts import Place, open_sampler
from gateway.pool.adapter_hosts import HostRefused
from gateway.settings.config import GatewaySettings
from router_models.artifacts.adapter import dump

CURVE_POINTS: Final = 50
"""Of the figures that the artefact keeps."""


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
    learned = ReasonerSettings(**choices, lora_alpha=2 * choices["lora_rank"], public=False)
    found = gather_prompts(settings, prompts)
    opened = open_base(settings, base, device)
    model = attach_lora(opened.model, learned, seed)
    place = Place(rollouts_on, folder, server_folder)
    identity = _digest(found, opened.identity.sha256)
    with (
        explained(ValueError, HostRefused, SamplerUnavailable),
        open_sampler(settings, place, opened, model, learned) as sampler,
    ):
        learner = Learner.begin(model, opened.tokenizer, sampler, learned, seed)
        figures = LocalTraining(learner, found, seed, checkpoint, identity).finish(steps)
        data = dump(
            learner.weights(),
            opened.identity,
            alpha=learned.lora_alpha,
            created_at=datetime.now(UTC),
            training={"seed": seed, "settings": asdict(learned), **_curve(figures)},
            provenance={"prompts": len(found), "steps": steps},
        )
        manifest = adapter_store(settings).put_own(data)
    first, last = _mean(figures[:10]), _mean(figures[-10:])
    click.echo(f"mean reward {first:.3f} in the first ten steps, {last:.3f} in the last ten")
    click.echo(f"made {manifest.version}; waypost reasoner evaluate {manifest.version} measures it")


def _digest(prompts: Sequence[Prompt], base_sha256: str) -> str:
    return hashlib.sha256(f"{base_sha256} {prompts}".encode()).hexdigest()


def _curve(figures: Sequence[StepFigures]) -> dict[str, Any]:
    every = max(len(figures) // CURVE_POINTS, 1)
    return {
        "curve": [list(one) for one in figures[::every]],
        "curve_columns": list(StepFigures._fields),
        "tokens_generated": sum(one.tokens_generated for one in figures),
    }


def _mean(figures: Sequence[StepFigures]) -> float:
    return sum(one.reward for one in figures) / len(figures)
