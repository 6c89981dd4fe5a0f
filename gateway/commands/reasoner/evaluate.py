"""`waypost reasoner evaluate`: how much of a task a model can do, with and without adapters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click
from peft import PeftModel
from tqdm import tqdm

from federation.reasoner.lora import attach_lora
from federation.reasoner.prompts import Prompt
from federation.reasoner.rollouts import LocalSampler
from federation.reasoner.settings import ReasonerSettings
from gateway.artifacts.store import adapter_store
from gateway.commands.artifacts import explained
from gateway.commands.options import settings_option
from gateway.federation.reasoner.bases import Base, base_options, gather_prompts, open_base
from gateway.problems.calibration import wilson_interval
from gateway.settings.config import GatewaySettings
from router_models.artifacts.adapter import Adapter, load
from router_models.verifiers.verifiers import NotVerifiable, verify

AT_ONCE: Final = 32
"""Prompts in one batch; bounds memory."""
GREEDY: Final = 1e-6
"""At so low a temperature the likeliest token is always drawn."""
ALL: Final = "all"


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
    store = adapter_store(settings.data_dir)
    with explained():
        adapters = [load(store.read(version)) for version in versions]
    prompts = gather_prompts(settings, file)
    opened = open_base(settings, base, device)
    tasks = list(dict.fromkeys([*(prompt.task for prompt in prompts if prompt.task), ALL]))
    width = max(len(name) for name in ("base", *versions))
    click.echo("  ".join([" " * width, *(f"{task:>21}" for task in tasks)]))
    scores = measure(opened, None, prompts, max_new_tokens)
    click.echo(_line("base", width, scores, prompts, tasks))
    for adapter in adapters:
        with explained(ValueError):
            scores = measure(opened, adapter, prompts, max_new_tokens)
        click.echo(_line(adapter.version, width, scores, prompts, tasks))


def measure(
    base: Base, adapter: Adapter | None, prompts: Sequence[Prompt], max_new_tokens: int
) -> dict[str, float]:
    """Return the score of the likeliest answer to each prompt, by the prompt's id.

    Answers that are beyond what their verifier can check have none.

    Raises:
        ArtifactRejected: The adapter belongs to another model.
        ValueError: Its weights do not fit.
    """
    settings = ReasonerSettings(temperature=GREEDY, max_new_tokens=max_new_tokens)
    # Fresh adapters change nothing, so without one the base itself is measured.
    model: PeftModel = (
        attach_lora(base.model, ReasonerSettings(lora_rank=1), seed=0)
        if adapter is None
        else base.with_adapter(adapter)
    )
    sampler = LocalSampler(model, base.tokenizer, settings)
    scores: dict[str, float] = {}
    try:
        for first in tqdm(range(0, len(prompts), AT_ONCE), "answering", leave=False):
            batch = prompts[first : first + AT_ONCE]
            for prompt, [response] in zip(batch, sampler.sample(batch, 1, seed=0), strict=True):
                try:
                    scores[prompt.id] = verify(prompt.verifier, response.text)
                except NotVerifiable as error:
                    click.echo(f"{prompt.id}: not counted: {error}", err=True)
    finally:
        model.unload()
    return scores


def _line(
    name: str,
    width: int,
    scores: Mapping[str, float],
    prompts: Sequence[Prompt],
    tasks: Sequence[str],
) -> str:
    cells = []
    for task in tasks:
        asked = [prompt.id for prompt in prompts if task in {ALL, prompt.task}]
        own = [scores[prompt] for prompt in asked if prompt in scores]
        low, high = wilson_interval(sum(own), len(own))
        cells.append(f"{sum(own) / max(len(own), 1):.3f} ({low:.3f} to {high:.3f})")
    return "  ".join([f"{name:{width}}", *cells])
