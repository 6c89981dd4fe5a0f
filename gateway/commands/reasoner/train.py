"""`waypost reasoner train`: GRPO with LoRA adapters on verifiable prompts, without a federation."""

import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import torch
from tqdm import tqdm

from federation.reasoner.figures import StepFigures
from federation.reasoner.lora import attach_lora
from federation.reasoner.prompts import Prompt, batch_of
from federation.reasoner.server_sampler import SamplerUnavailable
from federation.reasoner.settings import ReasonerSettings
from federation.reasoner.trainer import Learner
from gateway.artifacts.store import adapter_store
from gateway.commands.artifacts import explained
from gateway.commands.options import settings_option
from gateway.federation.reasoner.bases import base_options, gather_prompts, open_base
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
        figures = Run(learner, found, seed, checkpoint, identity).finish(steps)
        data = dump(
            learner.weights(),
            opened.identity,
            alpha=learned.lora_alpha,
            created_at=datetime.now(UTC),
            training={"seed": seed, "settings": asdict(learned), **_curve(figures)},
            provenance={"prompts": len(found), "steps": steps},
        )
        manifest = adapter_store(settings.data_dir).put(data)
    first, last = _mean(figures[:10]), _mean(figures[-10:])
    click.echo(f"mean reward {first:.3f} in the first ten steps, {last:.3f} in the last ten")
    click.echo(f"made {manifest.version}; waypost reasoner evaluate {manifest.version} measures it")


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A training that can be stopped after every step.

    Attributes:
        identity: Digest of prompts and model; a checkpoint of others is refused.
    """

    learner: Learner
    prompts: Sequence[Prompt]
    seed: int
    checkpoint: Path | None
    identity: str

    def finish(self, steps: int) -> list[StepFigures]:
        """Take the steps that are left; returns the figures of all.

        Raises:
            click.ClickException: The checkpoint is of another run, or no checkpoint.
        """
        figures = self._resume()
        size = self.learner.settings.prompts_per_step
        with tqdm(total=steps, initial=len(figures), desc="tuning", unit="step") as bar:
            for step in range(len(figures), steps):
                batch = batch_of(self.prompts, size, step, self.seed)
                figures.append(self.learner.private_step(batch))
                self._keep(figures)
                bar.set_postfix(reward=f"{figures[-1].reward:.2f}", taught=figures[-1].prompts_used)
                bar.update()
        return figures

    def _resume(self) -> list[StepFigures]:
        if self.checkpoint is None or not self.checkpoint.is_file():
            return []
        try:
            kept = torch.load(self.checkpoint, weights_only=True)
            if kept["identity"] != self.identity:
                raise ValueError("it was made with other prompts or another model")  # noqa: TRY301
            self.learner.resume(kept["learner"])
        except ValueError as error:
            raise click.ClickException(
                f"{self.checkpoint}: {error}; delete it to start over"
            ) from error
        except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError) as error:
            raise click.ClickException(
                f"{self.checkpoint} cannot be read as a checkpoint; delete it to start over"
            ) from error
        return [StepFigures(*one) for one in kept["figures"]]

    def _keep(self, figures: Sequence[StepFigures]) -> None:
        """Replace the checkpoint, whole or not at all."""
        if self.checkpoint is None:
            return
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(
            {
                "identity": self.identity,
                "figures": [tuple(one) for one in figures],
                "learner": self.learner.checkpoint(),
            },
            partial,
        )
        partial.replace(self.checkpoint)


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
