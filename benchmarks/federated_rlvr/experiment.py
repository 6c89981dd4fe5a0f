"""Runs one arm with one seed: whole sessions of the federation's own code, in this process."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from peft import PeftModel

from benchmarks.federated_rlvr.protocol import Arm, Config
from benchmarks.federated_rlvr.tasks import World
from benchmarks.federation_simulation.reasoner import SimulatedSite, simulate
from federation.reasoner.figures import StepFigures
from federation.reasoner.lora import attach_lora, base_sha256, load_base, load_lora, lora_weights
from federation.reasoner.plan import BaseName, ReasonerPlan
from federation.reasoner.progress import Progress
from federation.reasoner.prompts import ChatTokenizer, tokenizer_sha256
from federation.reasoner.rollouts import LocalSampler
from federation.reasoner.session import ReasonerResult
from federation.reasoner.trainer import Learner
from router_models.types import Arrays
from router_models.verifiers.verifiers import verify

GREEDY: float = 1e-3
"""A temperature at which the likeliest token is drawn."""

TOGETHER: str = "together"
"""Name of the one model that clients train together."""


@dataclass(slots=True)
class Stopwatch:
    """CPU seconds of this process, those of measuring apart."""

    began_s: float
    measuring_s: float = 0.0

    @property
    def training_s(self) -> float:
        """Seconds since it began, without measuring."""
        return time.process_time() - self.began_s - self.measuring_s


@dataclass(frozen=True, slots=True, eq=False)
class Lab:
    """One model in memory that all arms and clients share; only adapters differ.

    Attributes:
        initial: Adapters that every session begins with: they change nothing yet.
        parameters: Of the whole base model.
    """

    config: Config
    model: PeftModel
    tokenizer: ChatTokenizer
    base: BaseName
    initial: Arrays
    parameters: int

    @classmethod
    def open(cls, config: Config, source: str, gguf_file: str | None) -> Self:
        """Load the model and attach adapters."""
        base, tokenizer = load_base(
            source, gguf_file=gguf_file, dtype=config.dtype, device=config.device
        )
        if config.template is not None:
            tokenizer.chat_template = config.template
        n_tokens: Any = base.get_input_embeddings().num_embeddings
        name = BaseName(source, base_sha256(base), tokenizer_sha256(tokenizer), n_tokens)
        parameters = sum(one.numel() for one in base.parameters())
        model = attach_lora(base, config.settings, seed=0)
        return cls(config, model, tokenizer, name, lora_weights(model), parameters)

    def learner(self, plan: ReasonerPlan, seed: int) -> Learner:
        """Make a learner; whatever another one left in the model is overwritten."""
        sampler = LocalSampler(self.model, self.tokenizer, plan.settings)
        return Learner.begin(self.model, self.tokenizer, sampler, plan.settings, seed)

    def ask(self, weights: Arrays, world: World) -> dict[str, str]:
        """Ask the test questions, greedily; by kind, a 1 for each right answer and a 0."""
        load_lora(self.model, weights)
        settings = replace(self.config.settings, temperature=GREEDY)
        sampler = LocalSampler(self.model, self.tokenizer, settings)
        marks = {}
        for kind, prompts in world.test.items():
            answers = [one for (one,) in sampler.sample(prompts, 1, seed=0)]
            rewards = [
                verify(prompt.verifier, one.text)
                for prompt, one in zip(prompts, answers, strict=True)
            ]
            marks[kind] = "".join(str(int(reward >= 1.0)) for reward in rewards)
        return marks


def run_arm(lab: Lab, arm: Arm, world: World, seed: int) -> dict[str, Any]:
    """Train and measure; local training is one session per client."""
    watch = Stopwatch(time.process_time())
    marks: dict[str, dict[str, Any]] = {str(n): {} for n in lab.config.measured_after}
    groups = [[client] for client in world.private] if arm.is_alone else [list(world.private)]
    results = [_session(lab, arm, world, seed, clients, watch, marks) for clients in groups]
    return {
        "marks": marks,
        "cpu_s": watch.training_s,
        "measuring_cpu_s": watch.measuring_s,
        **_sums(results, lab.config),
    }


def _session(
    lab: Lab,
    arm: Arm,
    world: World,
    seed: int,
    clients: Sequence[str],
    watch: Stopwatch,
    marks: Mapping[str, dict[str, Any]],
) -> ReasonerResult:
    settings = arm.settings(lab.config.settings)
    plan = ReasonerPlan(
        f"{seed}", lab.base, settings, lab.config.rounds, quorum=len(clients), seed=seed
    )
    sites = [SimulatedSite(name, lab.base, world.private[name], lab.learner) for name in clients]

    def measure(progress: Progress) -> None:
        finished = str(len(progress.figures))
        name = clients[0] if arm.is_alone else TOGETHER
        if progress.answers or finished not in marks or name in marks[finished]:
            return
        began_s = time.process_time()
        marks[finished][name] = lab.ask(progress.weights, world)
        watch.measuring_s += time.process_time() - began_s

    return simulate(sites, plan, world.public, lab.initial, on_progress=measure)


def _sums(results: Sequence[ReasonerResult], config: Config) -> dict[str, Any]:
    """Add up what the sessions tell of themselves."""
    rounds = [one for result in results for one in result.report.rounds]
    told = [result.progress.figures for result in results]
    by_round: list[list[StepFigures]] = [
        [step for figures in told for steps in figures[number].values() for step in steps]
        for number in range(1, config.rounds + 1)
    ]
    every = [step for steps in by_round for step in steps]
    return {
        "reward": [sum(step.reward for step in steps) / len(steps) for steps in by_round],
        "steps": len(every),
        "prompts": sum(step.prompts for step in every),
        "prompts_used": sum(step.prompts_used for step in every),
        "tokens_generated": sum(step.tokens_generated for step in every),
        "answers_swapped": sum(step.answers_swapped for step in every),
        "tokens_swapped": sum(step.tokens_swapped for step in every),
        "bytes_down": sum(one.bytes_sent for one in rounds) / config.rounds,
        "bytes_up": sum(one.bytes_received for one in rounds) / config.rounds,
    }
