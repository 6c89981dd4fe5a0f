"""The model that is tuned, in memory."""

from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel

from federation.reasoner.aggregate import Weights
from federation.reasoner.lora import attach_lora, lora_weights
from federation.reasoner.plan import BaseName
from federation.reasoner.prompts import tokenizer_sha256
from federation.reasoner.settings import ReasonerSettings
from router_models.artifacts.adapter import BaseModel


@dataclass(slots=True, eq=False)
class Base:
    """A model without adapters, or with those of one session.

    Attributes:
        model: Changed in place where adapters are attached.
        adapted: The same with adapters; None without.
    """

    name: BaseName
    model: PreTrainedModel
    tokenizer: Any
    adapted: PeftModel | None = None

    @classmethod
    def from_model(cls, identity: BaseModel, model: PreTrainedModel, tokenizer: Any) -> "Base":
        """Name a model that was just loaded."""
        name = BaseName(
            identity.id, identity.sha256, tokenizer_sha256(tokenizer), len(tokenizer.get_vocab())
        )
        return cls(name, model, tokenizer)

    def adapt(self, settings: ReasonerSettings, seed: int) -> PeftModel:
        """Attach new adapters, in place of those of an earlier session."""
        if self.adapted is not None:
            self.model = self.adapted.unload()
        self.adapted = attach_lora(self.model, settings, seed)
        return self.adapted

    def initial(self, settings: ReasonerSettings, seed: int) -> Weights:
        """Return the adapters that a session begins with."""
        return lora_weights(self.adapt(settings, seed))
