"""A training of adapters without a federation, which can be stopped after every step."""

import hashlib
import pickle
from collections.abc import Mapping, Sequence
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
from gateway.federation.reasoner.bases import Base
from gateway.federation.reasoner.rollouts import Place, open_sampler
from gateway.settings.config import GatewaySettings
from router_models.artifacts.adapter import dump

CURVE_POINTS: Final = 50
"""Of the figures that the artefact keeps."""


def tune(
    settings: GatewaySettings,
    base: Base,
    prompts: Sequence[Prompt],
    place: Place,
    choices: Mapping[str, Any],
    *,
    steps: int,
    seed: int,
    checkpoint: Path | None,
) -> tuple[bytes, list[StepFigures]]:
    """Train an adapter; returns its artefact and the figures of every step.

    Args:
        place: Where answers are drawn.
        choices: Fields of `federation.reasoner.settings.ReasonerSettings`.
        checkpoint: Written after every step, resumed from where it is there.

    Raises:
        ValueError: The choices do not fit each other or the model.
        HostRefused: The server that draws the answers does not take the adapter.
        click.ClickException: The checkpoint is of another run or cannot be read, or the server
            draws no answers.
    """
    learned = ReasonerSettings(**choices, lora_alpha=2 * choices["lora_rank"], public=False)
    model = attach_lora(base.model, learned, seed)
    with open_sampler(settings, place, base, model, learned) as sampler:
        learner = Learner.begin(model, base.tokenizer, sampler, learned, seed)
        identity = hashlib.sha256(f"{base.identity.sha256} {prompts}".encode()).hexdigest()
        training = LocalTraining(learner, prompts, seed, checkpoint, identity)
        try:
            figures = training.finish(steps)
        except SamplerUnavailable as error:
            raise click.ClickException(str(error)) from error
        data = dump(
            learner.weights(),
            base.identity,
            alpha=learned.lora_alpha,
            created_at=datetime.now(UTC),
            training={"seed": seed, "settings": asdict(learned), **_curve(figures)},
            provenance={"prompts": len(prompts), "steps": steps},
        )
    return data, figures


def mean_reward(figures: Sequence[StepFigures]) -> float:
    """Average the rewards of steps."""
    return sum(one.reward for one in figures) / len(figures)


def _curve(figures: Sequence[StepFigures]) -> dict[str, Any]:
    every = max(len(figures) // CURVE_POINTS, 1)
    return {
        "curve": [list(one) for one in figures[::every]],
        "curve_columns": list(StepFigures._fields),
        "tokens_generated": sum(one.tokens_generated for one in figures),
    }


@dataclass(frozen=True, slots=True, eq=False)
class LocalTraining:
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
