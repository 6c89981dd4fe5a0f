"""How much of a task a model can do, with and without adapters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from peft import PeftModel
from tqdm import tqdm

from federation.reasoner.lora import attach_lora
from federation.reasoner.prompts import Prompt
from federation.reasoner.rollouts import LocalSampler
from federation.reasoner.settings import ReasonerSettings
from gateway.federation.reasoner.bases import Base
from gateway.problems.calibration import wilson_interval
from router_models.artifacts.adapter import Adapter
from router_models.verifiers.verifiers import NotVerifiable, verify

ALL: Final = "all"
"""Stands for the prompts of every task."""
AT_ONCE: Final = 32
"""Prompts in one batch; bounds memory."""
GREEDY: Final = 1e-6
"""At so low a temperature the likeliest token is always drawn."""


def measure(
    base: Base,
    adapter: Adapter | None,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    say: Callable[[str], None],
) -> dict[str, float]:
    """Return the score of the likeliest answer to each prompt, by the prompt's id.

    Answers that are beyond what their verifier can check have none.

    Args:
        say: Called with why an answer is not counted.

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
                    say(f"{prompt.id}: not counted: {error}")
    finally:
        model.unload()
    return scores


def tasks_of(prompts: Sequence[Prompt]) -> list[str]:
    """List the tasks that `prompts` name, then `ALL`."""
    return list(dict.fromkeys([*(prompt.task for prompt in prompts if prompt.task), ALL]))


def accuracies(
    scores: Mapping[str, float], prompts: Sequence[Prompt], tasks: Sequence[str]
) -> list[str]:
    """Write the mean score of each task with its 95 % interval (Wilson's)."""
    cells = []
    for task in tasks:
        asked = [prompt.id for prompt in prompts if task in {ALL, prompt.task}]
        own = [scores[prompt] for prompt in asked if prompt in scores]
        low, high = wilson_interval(sum(own), len(own))
        cells.append(f"{sum(own) / max(len(own), 1):.3f} ({low:.3f} to {high:.3f})")
    return cells
