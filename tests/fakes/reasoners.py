"""A language of four digits, sites that tune a tiny model to speak it, and what can befall them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from peft import PeftModel

from federation.reasoner.lora import attach_lora, base_sha256, lora_weights
from federation.reasoner.plan import BaseName, ReasonerPlan
from federation.reasoner.prompts import Prompt, parse_prompts, tokenizer_sha256
from federation.reasoner.rollouts import LocalSampler
from federation.reasoner.settings import ReasonerSettings
from federation.reasoner.simulation import SimulatedSite
from federation.reasoner.trainer import Learner
from router_models.types import Float32
from tests.fakes.language_models import tiny_model

MARKER: Final = 4
END: Final = 5
N_TOKENS: Final = 6
SETTINGS: Final = ReasonerSettings(
    lora_rank=2,
    lora_alpha=4.0,
    lora_targets=("q_proj", "v_proj"),
    group_size=6,
    prompts_per_step=3,
    steps_per_round=4,
    public_every=2,
    max_per_sender=2,
    max_response_tokens=6,
    max_new_tokens=6,
    learning_rate=1e-2,
)


class DigitTokenizer:
    """One token for each of 0 to 3, one for all else, and one that ends an answer."""

    eos_token_id: int = END
    chat_template: str = "digits"

    def apply_chat_template(
        self, conversation: Any, *, add_generation_prompt: bool, return_dict: bool
    ) -> list[int]:
        text = "".join(message["content"] for message in conversation)
        return [int(one) if one in "0123" else MARKER for one in text]

    def decode(self, token_ids: Any, *, skip_special_tokens: bool) -> str:
        return "".join(str(token) for token in token_ids if token < MARKER)

    def get_vocab(self) -> dict[str, int]:
        return {str(token): token for token in range(N_TOKENS)}


@dataclass(frozen=True, eq=False)
class Reasoner:
    """A model that several sites share, with the adapters that a session begins with."""

    model: PeftModel
    name: BaseName
    initial: Mapping[str, Float32]

    def learner(self, plan: ReasonerPlan, seed: int) -> Learner:
        """Make a learner of this model."""
        sampler = LocalSampler(self.model, DigitTokenizer(), plan.settings)
        return Learner.begin(self.model, DigitTokenizer(), sampler, plan.settings, seed)


@cache
def reasoner() -> Reasoner:
    """Make the model; learners leave nothing in it that the next one would not overwrite."""
    base = tiny_model(seed=3, n_tokens=N_TOKENS)  # of several, one that often ends its answers
    name = BaseName("tiny", base_sha256(base), tokenizer_sha256(DigitTokenizer()), N_TOKENS)
    model = attach_lora(base, SETTINGS, seed=0)
    return Reasoner(model, name, lora_weights(model))


def prompts_of(subject: str, digits: str, n_prompts: int = 6) -> list[Prompt]:
    """Make prompts whose answers must end with one of these digits."""
    verifier = {"kind": "regex", "pattern": f"[{digits}]$"}
    tables = [
        {"query_id": f"{subject}-{index}", "text": f"{subject} {index}", "verifier": verifier}
        for index in range(n_prompts)
    ]
    return parse_prompts((table["query_id"], table) for table in tables)  # type: ignore[misc]


def public_prompts() -> list[Prompt]:
    """Make the prompts that everybody answers."""
    return prompts_of("public", "01")


def reasoner_sites(n_sites: int = 3) -> list[SimulatedSite]:
    """Make sites that each have prompts of their own kind."""
    shared = reasoner()
    return [
        SimulatedSite(
            f"site-{index}",
            shared.name,
            prompts_of(f"private-{index}", f"{index % 4}{(index + 1) % 4}"),
            shared.learner,
        )
        for index in range(n_sites)
    ]


def reasoner_plan(settings: Mapping[str, Any] | None = None, **changes: Any) -> ReasonerPlan:
    """Make the plan of two short rounds."""
    own = ReasonerSettings(**{**_table(SETTINGS), **(settings or {})})
    given = {"session": "test", "base": reasoner().name, "rounds": 2, "seed": 1, **changes}
    return ReasonerPlan(settings=own, **given)


def _table(settings: ReasonerSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__slots__}
