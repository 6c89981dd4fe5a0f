"""A training of adapters without a federation, which can be stopped after every step."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from tqdm import tqdm

from federation.reasoner.figures import StepFigures
from federation.reasoner.prompts import Prompt, batch_of
from federation.reasoner.trainer import Learner


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
