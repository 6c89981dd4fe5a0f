"""What is compared, with which settings, and on how many questions."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import torch

from benchmarks.federated_rlvr.tasks import Sizes
from federation.reasoner.settings import ReasonerSettings

BASE: Final = "base"
LOCAL: Final = "local only"
FEDAVG: Final = "FedAvg-LoRA"
PUBLIC: Final = "public data, no swap"
RANDOM: Final = "random swap"
BALANCED: Final = "balanced swap"


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train.

    Attributes:
        changes: To the settings of the configuration, which are those of the balanced swap.
        is_alone: Every client trains for itself.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    is_alone: bool = False

    def settings(self, common: ReasonerSettings) -> ReasonerSettings:
        """Return this arm's settings."""
        return replace(common, **self.changes)


ARMS: Final[Mapping[str, Arm]] = {
    LOCAL: Arm({"public": False}, is_alone=True),
    FEDAVG: Arm({"public": False}),
    PUBLIC: Arm({"swap": "none"}),
    RANDOM: Arm({"swap": "random"}),
    BALANCED: Arm(),
}
EXTRAS: Final[Mapping[str, Arm]] = {
    "balanced, truncated ratio": Arm({"foreign_ratio": "truncated"}),
    "balanced, LUFFY ratio": Arm({"foreign_ratio": "luffy"}),
    "balanced, alternating A and B": Arm({"aggregation": "alternating"}),
    "balanced, mean of products": Arm({"aggregation": "product"}),
    "FedProx, no public data": Arm({"public": False, "proximal_mu": 0.01}),
}
"""One switch each, from balanced swap or from FedAvg-LoRA."""

CHAT: Final = "".join(
    f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}"
    for question, answer in (
        ("Which is bigger, a mouse or a horse?", "The answer is horse<|im_end|>\n"),
        ("How many legs has a spider?", "The answer is 8<|im_end|>\n"),
        ("Which is longer, 3 or 7 miles?", "The answer is 7<|im_end|>\n"),
        ("What color is grass?", "The answer is green<|im_end|>\n"),
        ("{{ messages[-1].content }}", "The answer is"),
    )
)
"""Chat template that shows the form of an answer and opens it: the model is small."""


@dataclass(frozen=True, slots=True)
class Config:
    """How large a run is.

    Attributes:
        settings: Of the balanced swap.
        rounds: Aggregations.
        measured_after: Rounds after which the test questions are asked, the last one included.
        sizes: Of the worlds.
        template: Takes the place of the tokenizer's chat template; None leaves that.
        dtype: Of the frozen weights.
        device: Where the model computes.
    """

    settings: ReasonerSettings
    rounds: int
    measured_after: tuple[int, ...]
    sizes: Sizes
    template: str | None = None
    dtype: torch.dtype = torch.bfloat16
    device: str = "cpu"


def _last_blocks(first: int, end: int) -> tuple[str, ...]:
    """Name the linear layers of a Llama's last blocks: gradients stop below them."""
    attention = [f"self_attn.{one}_proj" for one in "qkvo"]
    layers = [*attention, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    return tuple(f"layers.{block}.{layer}" for block in range(first, end) for layer in layers)


CONFIGS: Final[Mapping[str, Config]] = {
    # SmolLM2-135M, an hour of one core for five arms and three seeds.
    "cpu": Config(
        ReasonerSettings(
            lora_rank=8,
            lora_alpha=16,
            lora_targets=_last_blocks(20, 30),
            group_size=8,
            prompts_per_step=6,
            steps_per_round=4,
            public_every=4,
            learning_rate=1e-3,
            max_new_tokens=5,
            max_response_tokens=5,
        ),
        rounds=8,
        measured_after=(4, 8),
        sizes=Sizes(private=48, public=8, test=40),
        template=CHAT,
    ),
    # Of Qwen 2.5's size on one GPU, with word problems from a file; not run yet.
    "gpu": Config(
        ReasonerSettings(
            prompts_per_step=16,
            learning_rate=2e-5,
            max_new_tokens=512,
            max_response_tokens=512,
            microbatch_tokens=8192,
        ),
        rounds=12,
        measured_after=(4, 8, 12),
        sizes=Sizes(private=1500, public=100, test=200),
        device="cuda",
    ),
}
