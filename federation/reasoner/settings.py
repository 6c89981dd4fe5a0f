"""How a reasoning model is tuned: one switch per choice, the paper's forms by default."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

Swap = Literal["balanced", "random", "none"]
Aggregation = Literal["separate", "alternating", "product"]
ForeignRatio = Literal["local", "truncated", "luffy"]

LLAMA_LINEAR: Final = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)
"""All linear layers of a block, as Llama, Qwen, Mistral and Gemma call them."""


@dataclass(frozen=True, slots=True)
class ReasonerSettings:
    """Federated reinforcement learning from verifiable rewards (PubSwap, arXiv 2604.12160).

    Attributes:
        lora_rank: Of the adapters (arXiv 2106.09685); 32 in the paper.
        lora_alpha: An adapter's product counts `lora_alpha / lora_rank` times; 64 in the paper.
        lora_targets: Names of the layers that get one.
        group_size: Answers per prompt, K.
        prompts_per_step: Prompts of one step.
        steps_per_round: Steps between two aggregations, τ.
        public: Take public steps at all.
        public_every: Every that many steps is a public one, P.
        swap: Which of the own answers to public prompts give way to other clients' right ones.
        foreign_ratio: What stands for the old policy at other clients' tokens: the ``local`` one
            (the paper), the same with ``truncated`` importance weights on top (arXiv 2503.14476 has
            the clip, arXiv 1802.01561 the truncation), or ``luffy`` shaping (arXiv 2504.14945).
        aggregation: A and B averaged ``separate``-ly (the paper), ``alternating`` so that only one
            of them moves in a round (arXiv 2502.01755), or their ``product``, cut to the rank.
        max_per_sender: Admitted answers per other client and prompt.
        max_response_tokens: Longer answers of others are not admitted.
        learning_rate: Of AdamW.
        epochs: Optimiser steps on one batch of answers.
        clip_low: The ratio counts down to ``1 - clip_low``.
        clip_high: The ratio counts up to ``1 + clip_high``.
        kl_beta: Weight of the divergence from the base model; 0 in the paper.
        proximal_mu: Weight of FedProx's pull to the round's start (arXiv 1812.06127).
        advantage_eps: Keeps a group of equal rewards at zero.
        max_gradient_norm: Gradients are shortened to it.
        temperature: Answers are drawn at it, and the policy that learns has it too.
        max_new_tokens: Own answers are cut off there.
        microbatch_tokens: Tokens in one forward and backward pass; bounds memory, and changes
            the result by rounding alone.
        mixed_precision: Compute in bfloat16, where the device has it and that loses little; the
            adapters stay in 32 bits. Without a GPU nothing changes: there it is no faster.
    """

    lora_rank: int = 32
    lora_alpha: int = 64
    lora_targets: tuple[str, ...] = LLAMA_LINEAR
    group_size: int = 8
    prompts_per_step: int = 8
    steps_per_round: int = 8
    public: bool = True
    public_every: int = 4
    swap: Swap = "balanced"
    foreign_ratio: ForeignRatio = "local"
    aggregation: Aggregation = "separate"
    max_per_sender: int = 4
    max_response_tokens: int = 1024
    learning_rate: float = 1e-5
    epochs: int = 1
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_beta: float = 0.0
    proximal_mu: float = 0.0
    advantage_eps: float = 1e-4
    max_gradient_norm: float = 1.0
    temperature: float = 1.0
    max_new_tokens: int = 1024
    microbatch_tokens: int = 4096
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        """Refuse what no run can follow; lists become tuples, and whole numbers integers.

        Raises:
            ValueError: A value is out of range or unknown.
        """
        object.__setattr__(self, "lora_targets", tuple(self.lora_targets))
        if self.lora_alpha != int(self.lora_alpha):
            raise ValueError(f"lora_alpha must be a whole number, not {self.lora_alpha}")
        object.__setattr__(self, "lora_alpha", int(self.lora_alpha))
        _require_one_of("swap", self.swap, get_args(Swap))
        _require_one_of("foreign_ratio", self.foreign_ratio, get_args(ForeignRatio))
        _require_one_of("aggregation", self.aggregation, get_args(Aggregation))
        if not self.lora_targets:
            raise ValueError("lora_targets must name at least one layer")
        if self.group_size < 2:
            raise ValueError(
                "group_size must be at least 2, as answers to a prompt are compared with each other"
            )
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in _ABOVE_ZERO:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if min(self.kl_beta, self.proximal_mu) < 0:
            raise ValueError("kl_beta and proximal_mu must be at least 0")
        if not 0 < self.clip_low <= 1:
            raise ValueError(f"clip_low must be above 0 and at most 1, not {self.clip_low}")

    def is_public(self, step: int) -> bool:
        """Whether a step, counted from 1 within its round, is on public prompts."""
        return self.public and step % self.public_every == 0


_AT_LEAST_ONE: Final = (
    "lora_rank",
    "lora_alpha",
    "prompts_per_step",
    "steps_per_round",
    "public_every",
    "max_per_sender",
    "max_response_tokens",
    "epochs",
    "max_new_tokens",
    "microbatch_tokens",
)
_ABOVE_ZERO: Final = (
    "learning_rate",
    "clip_high",
    "advantage_eps",
    "max_gradient_norm",
    "temperature",
)


def _require_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
