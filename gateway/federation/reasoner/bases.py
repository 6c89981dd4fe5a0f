"""The model that is tuned or measured, and the prompts that is done with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from federation.reasoner.lora import attach_lora, base_sha256, load_base, load_lora
from federation.reasoner.prompts import InvalidPrompt, Prompt, parse_prompts
from federation.reasoner.settings import ReasonerSettings
from gateway.embedded.weights import find_weights
from gateway.evaluation_log.reasoning_prompts import private_prompts
from gateway.problems.calibration import CalibrationError, read_json_lines
from gateway.settings.config import GatewaySettings
from gateway.storage.engines import opened
from router_models.artifacts.adapter import Adapter, BaseModel
from router_models.errors import ArtifactRejected

GGUF = ".gguf"


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """A model without adapters, and its tokenizer, both of the transformers library."""

    model: PreTrainedModel
    tokenizer: Any
    identity: BaseModel

    def with_adapter(self, adapter: Adapter) -> PeftModel:
        """Attach an adapter; the base is the base again after `PeftModel.unload`.

        Raises:
            ArtifactRejected: It belongs to another model.
        """
        manifest = adapter.manifest
        if manifest.base_sha256 != self.identity.sha256:
            raise ArtifactRejected(
                f"{adapter.version} was tuned from {manifest.base_model} with other weights than "
                f"{self.identity.id} has"
            )
        shape = ReasonerSettings(
            lora_rank=manifest.rank,
            lora_alpha=manifest.alpha,
            lora_targets=tuple(adapter.pairs()),
        )
        model = attach_lora(self.model, shape, seed=0)
        load_lora(model, adapter.weights)
        return model


def base_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--base`` and ``--device``."""
    for option in (
        click.option(
            "--device",
            help="PyTorch device to compute on, such as cuda; a GPU by default where there is one.",
        ),
        click.option(
            "--base",
            help="Folder, GGUF file or Hugging Face id of a causal language model; by default "
            "that of the embedded pool.",
        ),
    ):
        function = option(function)
    return function


def open_base(settings: GatewaySettings, source: str | None, device: str | None) -> Base:
    """Load a model; on a GPU in the precision of its files, which its digest survives.

    Raises:
        click.ClickException: It cannot be loaded.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if source is None or source.endswith(GGUF):
        file = find_weights(settings.embedded) if source is None else Path(source)
        folder, gguf_file, name = str(file.parent), file.name, file.name
    else:
        folder, gguf_file, name = source, None, source.rstrip("/")
    is_plain = device == "cpu" or gguf_file is not None
    dtype: torch.dtype | Literal["auto"] = torch.float32 if is_plain else "auto"
    try:
        model, tokenizer = load_base(folder, gguf_file=gguf_file, dtype=dtype, device=device)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"--base: {name} cannot be loaded: {error}") from error
    return Base(model, tokenizer, BaseModel(name, base_sha256(model)))


def gather_prompts(settings: GatewaySettings, file: Path | None) -> list[Prompt]:
    """Read prompts from a JSON Lines file, or from the log of the teams that opted in.

    Raises:
        click.ClickException: There are none, or one of them is wrong.
    """
    try:
        if file is None:
            with opened(settings) as engine:
                prompts = parse_prompts(private_prompts(engine))
        else:
            prompts = parse_prompts(read_json_lines(file))
    except (CalibrationError, InvalidPrompt) as error:
        raise click.ClickException(str(error)) from error
    if not prompts:
        raise click.ClickException(
            f"no prompt in {file}"
            if file
            else "the log has no verified prompt of a team that opted in: name a file, or see "
            "`waypost reasoner prompts --help`"
        )
    return prompts
