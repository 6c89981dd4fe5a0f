"""What is compared: protections of a plan, and attackers against defences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from federation.coordinator.strategy_table import with_calibrated_noise
from federation.learning.settings import FederatedKMeansSettings, FederatedMlpSettings
from federation.privacy.settings import NoiseSettings
from federation.protocol.protocol import EncoderName, TrainingPlan

DELTA: Final = 1e-4
"""Sites have about 350 train queries."""

USD_PER_MILLION_TOKENS: Final = {
    "codegemma-7b": 0.2,
    "gemma-2-9b-it": 0.1,
    "llama-3.1-8b-instruct": 0.2,
    "llama-3.1-nemotron-51b-instruct": 0.9,
    "llama-3.3-nemotron-super-49b-v1": 0.9,
    "llama3-chatqa-1.5-70b": 0.9,
    "llama3-chatqa-1.5-8b": 0.2,
    "mistral-7b-instruct-v0.3": 0.2,
    "qwen2.5-7b-instruct": 0.2,
}
"""List prices that the table's costs were made with."""

DEAREST_TOKENS: Final = 400
"""A call is taken for no longer than this where there is noise."""

KMEANS: Final = FederatedKMeansSettings(local_clusters=20, clusters=20)
NOISY_KMEANS: Final = FederatedKMeansSettings(local_clusters=20, clusters=8)
"""Fewer cells, so that each stands out from its noise."""

MLP: Final = FederatedMlpSettings(hidden=64, rounds=25)


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to protect a session.

    Attributes:
        epsilon: Of the whole session, per site; None without noise.
        options: Of the plan.
    """

    name: str
    epsilon: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def suits(self, kind: str) -> bool:
        """Whether there is anything in this kind's messages that it acts on."""
        return kind == "mlp" or "norm_bound" not in self.options

    def plan(self, kind: str, encoder: EncoderName, seed: int) -> TrainingPlan:
        """Make the plan of one session."""
        settings = MLP if kind == "mlp" else KMEANS
        plan = TrainingPlan(kind, settings, encoder, seed=seed, **self.options)
        if self.epsilon is None:
            return plan
        if kind == "kmeans":
            plan = replace(plan, settings=NOISY_KMEANS)
        dearest = {m: p * DEAREST_TOKENS / 1e6 for m, p in USD_PER_MILLION_TOKENS.items()}
        noisy = replace(plan, noise=NoiseSettings(1.0, dearest), has_guard=False)
        return with_calibrated_noise(noisy, self.epsilon, DELTA)


SECURE: Final = {"secure_sum": True, "quorum": 3}

PROTECTIONS: Final[Sequence[Arm]] = (
    Arm("none", options={"least_rows": 1}),
    Arm("minimum counts (10)"),
    Arm("secure sum", options=SECURE),
    Arm("noise, epsilon 32", 32.0),
    Arm("noise, epsilon 8", 8.0),
    Arm("noise, epsilon 2", 2.0),
    Arm("secure sum, noise, epsilon 8", 8.0, SECURE),
    Arm("secure sum, noise, epsilon 2", 2.0, SECURE),
)

DEFENCES: Final[Sequence[Arm]] = (
    Arm("checks, mean"),
    Arm("checks, mean, norm bound 1.5", options={"norm_bound": 1.5}),
    Arm("checks, median", options={"rule": "median"}),
    Arm("checks, trimmed mean", options={"rule": "trimmed_mean"}),
)
