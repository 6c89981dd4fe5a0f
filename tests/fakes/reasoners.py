"""A language of four digits, sites that tune a tiny model to speak it, and what can befall them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from peft import PeftModel

from benchmarks.federation_simulation.reasoner import SimulatedSite
from federation.reasoner.lora import attach_lora, base_sha256, lora_weights
from federation.reasoner.plan import BaseName, ReasonerPlan
from federation.reasoner.prompts import Prompt, parse_prompts, tokenizer_sha256
from federation.reasoner.rollouts import LocalSampler
from federation.reasoner.settings import ReasonerSettings
from federation.reasoner.trainer import Learner
from router_models.types import Float32
from tests.fakes.digits import DigitTokenizer
from tests.fakes.language_models import tiny_model

TOKENIZER: Final = DigitTokenizer(4)
"""With so few tokens, answers often end and often are right."""
SETTINGS: Final = ReasonerSettings(
    lora_rank=2,
    lora_alpha=4,
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


@dataclass(frozen=True, eq=False)
class Reasoner:
    """A model that several sites share, with the adapters that a session begins with."""

    model: PeftModel
    name: BaseName
    initial: Mapping[str, Float32]

    def learner(self, plan: ReasonerPlan, seed: int) -> Learner:
        """Make a learner of this model."""
        sampler = LocalSampler(self.model, TOKENIZER, plan.settings)
        return Learner.begin(self.model, TOKENIZER, sampler, plan.settings, seed)


@cache
def reasoner() -> Reasoner:
    """Make the model; learners leave nothing in it that the next one would not overwrite."""
    base = tiny_model(
        seed=3, n_tokens=len(TOKENIZER.get_vocab())
    )  # of several, one that often ends its answers
    name = BaseName(
        "tiny", base_sha256(base), tokenizer_sha256(TOKENIZER), len(TOKENIZER.get_vocab())
    )
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
