"""Tunes a reasoning model at one client, one step at a time. READ THIS FIRST of this package."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any, Final, Self

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from federation.reasoner.aggregate import Weights, trainable_part
from federation.reasoner.figures import StepFigures
from federation.reasoner.grpo import (
    Sample,
    advantages_of,
    divergence,
    token_losses,
    tree_log_probabilities,
)
from federation.reasoner.lora import load_lora, lora_weights, set_trainable
from federation.reasoner.packing import PromptResponse, Tree, pack
from federation.reasoner.prompts import ChatTokenizer, Prompt, tokens_of
from federation.reasoner.responses import Response
from federation.reasoner.rollouts import Sampler
from federation.reasoner.settings import ReasonerSettings
from federation.reasoner.swap import Answer, admit_foreign, balanced_swap, grade, random_swap

_SWAPS: Final = {"balanced": balanced_swap, "random": random_swap}


@dataclass(frozen=True, slots=True)
class PublicAnswers:
    """Own answers to a public prompt."""

    prompt: Prompt
    answers: tuple[Answer, ...]

    @property
    def shared(self) -> list[Response]:
        """What other clients get: the answers that are right and complete."""
        return [one.response for one in self.answers if one.is_right and one.response.is_complete]


@dataclass(slots=True, eq=False)
class Learner:
    """A client's model and optimiser.

    Everything random comes from the seed and the step's number, so a step that is repeated after a
    kill draws the same answers.

    Attributes:
        model: With adapters; the rest is frozen.
        tokenizer: Its own.
        sampler: Draws answers from that model.
        settings: The session's.
        seed: Another one at each client.
        optimiser: AdamW on the adapters; its moments stay from round to round.
        step: Steps taken in the session.
        prompts_used: Prompts that taught since the round began: the client's weight in the mean.
        anchor: The adapters the round began with, for FedProx.
    """

    model: PeftModel
    tokenizer: ChatTokenizer
    sampler: Sampler
    settings: ReasonerSettings
    seed: int
    optimiser: torch.optim.Optimizer
    step: int = 0
    prompts_used: int = 0
    anchor: list[Tensor] = field(default_factory=list)

    @classmethod
    def begin(
        cls,
        model: PeftModel,
        tokenizer: ChatTokenizer,
        sampler: Sampler,
        settings: ReasonerSettings,
        seed: int,
    ) -> Self:
        """Start from the adapters that `model` has."""
        set_trainable(model, "both")
        adapters = [one for one in model.parameters() if one.requires_grad]
        optimiser = torch.optim.AdamW(adapters, settings.learning_rate, weight_decay=0.0)
        return cls(model, tokenizer, sampler, settings, seed, optimiser)

    @property
    def adapters(self) -> list[Tensor]:
        """The weights that learn."""
        parameters: list[Tensor] = self.optimiser.param_groups[0]["params"]
        return parameters

    def start_round(self, weights: Mapping[str, Any], round_: int) -> None:
        """Take over the session's adapters.

        Args:
            weights: By name, as `lora_weights` gives them.
            round_: Counted from 1; says which part learns where they alternate, and from where
                steps are counted on: a client may have missed some rounds.

        Raises:
            ValueError: The adapters are another model's.
        """
        load_lora(self.model, weights)
        self.step = (round_ - 1) * self.settings.steps_per_round
        self.prompts_used = 0
        self.anchor = [one.detach().clone() for one in self.adapters]
        set_trainable(self.model, trainable_part(self.settings.aggregation, round_))

    def private_step(self, prompts: Sequence[Prompt]) -> StepFigures:
        """Answer private prompts and learn from how the answers compare."""
        own = self._answer(prompts)
        return self._learn(own, [one.answers for one in own])

    def answer_public(self, prompts: Sequence[Prompt]) -> list[PublicAnswers]:
        """Answer public prompts; asked again before the step, the answers are the same.

        Their log-probabilities go with them, so here they are found where the sampler has none.
        """
        return [self._with_log_probabilities(one) for one in self._answer(prompts)]

    def public_step(
        self,
        own: Sequence[PublicAnswers],
        foreign: Mapping[str, Mapping[str, Sequence[Response]]],
    ) -> StepFigures:
        """Learn from public prompts, with other clients' right answers among the own ones.

        Args:
            own: Of `answer_public` in this step.
            foreign: Responses by the prompt's id and by sender.
        """
        swap = _SWAPS.get(self.settings.swap)
        if swap is None:
            return self._learn(own, [one.answers for one in own])
        rng = np.random.default_rng([self.seed, self.step, 1])
        groups = []
        for one in own:
            senders = foreign.get(one.prompt.id, {})
            pool = admit_foreign(one.prompt, senders, self.tokenizer, self.settings)
            groups.append(swap(one.answers, pool, rng))
        return self._learn(own, groups)

    def weights(self) -> Weights:
        """Return the adapters by name."""
        return lora_weights(self.model)

    def checkpoint(self) -> dict[str, Any]:
        """Return everything `resume` needs but the frozen model: tensors and plain values."""
        return {
            "settings": asdict(self.settings),
            "seed": self.seed,
            "step": self.step,
            "prompts_used": self.prompts_used,
            "adapters": [one.detach().clone() for one in self.adapters],
            "learning": [one.requires_grad for one in self.adapters],
            "anchor": [one.clone() for one in self.anchor],
            "optimiser": _copy(self.optimiser.state_dict()),
        }

    def resume(self, checkpoint: Mapping[str, Any]) -> None:
        """Go on where a learner with the same base model, settings and seed stopped.

        Raises:
            ValueError: The checkpoint is of other settings, another seed or another model.
        """
        for name, own in (("settings", asdict(self.settings)), ("seed", self.seed)):
            if checkpoint[name] != own:
                raise ValueError(f"the checkpoint has other {name}: {checkpoint[name]}, not {own}")
        stored = checkpoint["adapters"]
        if [one.shape for one in stored] != [one.shape for one in self.adapters]:
            raise ValueError("the checkpoint was made with another model")
        with torch.no_grad():
            for weights, saved, is_learning in zip(
                self.adapters, stored, checkpoint["learning"], strict=True
            ):
                weights.copy_(saved)
                weights.requires_grad_(is_learning)
        self.optimiser.load_state_dict(_copy(checkpoint["optimiser"]))
        device = self.model.device
        self.anchor = [one.to(device) for one in checkpoint["anchor"]]
        self.step, self.prompts_used = checkpoint["step"], checkpoint["prompts_used"]

    def _answer(self, prompts: Sequence[Prompt]) -> list[PublicAnswers]:
        seed = int(np.random.SeedSequence([self.seed, self.step]).generate_state(1)[0])
        drawn = self.sampler.sample(prompts, self.settings.group_size, seed)
        return [
            PublicAnswers(prompt, tuple(grade(prompt, responses)))
            for prompt, responses in zip(prompts, drawn, strict=True)
        ]

    def _with_log_probabilities(self, own: PublicAnswers) -> PublicAnswers:
        if all(one.response.log_probabilities for one in own.answers):
            return own
        read = tokens_of(own.prompt, self.tokenizer)
        answers = list(own.answers)
        pairs = [PromptResponse(read, one.response.tokens) for one in answers]
        for tree in pack(pairs, self.settings.microbatch_tokens):
            with torch.no_grad():
                found = iter(tree_log_probabilities(self.model, tree, self.settings).tolist())
            for at in tree.members:
                seen = tuple(islice(found, len(pairs[at].response)))
                response = replace(answers[at].response, log_probabilities=seen)
                answers[at] = replace(answers[at], response=response)
        return replace(own, answers=tuple(answers))

    def _learn(
        self, own: Sequence[PublicAnswers], groups: Sequence[Sequence[Answer]]
    ) -> StepFigures:
        samples = self._samples([one.prompt for one in own], groups)
        loss = self._optimise(samples) if samples else 0.0
        drawn = [answer for one in own for answer in one.answers]
        swapped = [answer for group in groups for answer in group if answer.is_foreign]
        n_used = len(samples) // self.settings.group_size
        self.step += 1
        self.prompts_used += n_used
        return StepFigures(
            reward=sum(one.reward for one in drawn) / len(drawn),
            prompts=len(own),
            prompts_used=n_used,
            tokens_generated=sum(len(one.response.tokens) for one in drawn),
            answers_swapped=len(swapped),
            tokens_swapped=sum(len(one.response.tokens) for one in swapped),
            loss=loss,
        )

    def _samples(
        self, prompts: Sequence[Prompt], groups: Sequence[Sequence[Answer]]
    ) -> list[Sample]:
        """Return the answers of groups with spread; the others teach nothing."""
        rewards = [[answer.reward for answer in group] for group in groups]
        scored = advantages_of(rewards, self.settings.advantage_eps)
        samples = []
        for prompt, group, advantages in zip(prompts, groups, scored, strict=True):
            if advantages is not None:
                read = tokens_of(prompt, self.tokenizer)
                samples += [
                    Sample(
                        PromptResponse(read, answer.response.tokens),
                        advantage,
                        answer.response.log_probabilities if answer.is_foreign else None,
                    )
                    for answer, advantage in zip(group, advantages, strict=True)
                ]
        return samples

    def _optimise(self, samples: Sequence[Sample]) -> float:
        """Take `epochs` optimiser steps on one batch; returns the loss before the first."""
        trees = list(pack([one.pair for one in samples], self.settings.microbatch_tokens))
        batches = [_Batch.of(tree, samples, self.model.device) for tree in trees]
        n_tokens = sum(len(one.tree.targets) for one in batches)
        first = 0.0
        for epoch in range(self.settings.epochs):
            self.optimiser.zero_grad()
            loss = sum(self._backward(batch, n_tokens) for batch in batches)
            self._pull_to_anchor()
            torch.nn.utils.clip_grad_norm_(self.adapters, self.settings.max_gradient_norm)
            self.optimiser.step()
            first = loss if epoch == 0 else first
        return first

    def _backward(self, batch: "_Batch", n_tokens: int) -> float:
        """Add a batch's share of the mean over all `n_tokens`; returns that share."""
        settings = self.settings
        if settings.kl_beta > 0 and batch.reference is None:
            batch.reference = self._reference(batch.tree)
        log_p = tree_log_probabilities(self.model, batch.tree, settings)
        if batch.old is None:
            # The model has not moved since the batch began: no second pass for the old policy.
            batch.old = log_p.detach()
        losses = token_losses(log_p, batch.old, batch.behaviour, batch.advantages, settings)
        if batch.reference is not None:
            losses = losses + settings.kl_beta * divergence(log_p, batch.reference)
        loss = losses.sum() / n_tokens
        torch.autograd.backward(loss)
        return float(loss.detach())

    def _reference(self, tree: Tree) -> Tensor:
        """Return the base model's log-probabilities of a tree's response tokens."""
        learning = [one.requires_grad for one in self.adapters]
        with torch.no_grad(), self.model.disable_adapter():
            reference = tree_log_probabilities(self.model, tree, self.settings)
        # peft lets all adapters learn again, the one whose turn it is not as well.
        for weights, is_learning in zip(self.adapters, learning, strict=True):
            weights.requires_grad_(is_learning)
        return reference

    def _pull_to_anchor(self) -> None:
        """Add the gradient of FedProx's term, µ/2 · |w - anchor|²."""
        if self.settings.proximal_mu == 0:
            return
        for weights, start in zip(self.adapters, self.anchor, strict=True):
            if weights.grad is not None:
                weights.grad += self.settings.proximal_mu * (weights.detach() - start)


@dataclass(slots=True, eq=False)
class _Batch:
    """A tree with what the loss needs of each response token; see `token_losses`.

    Attributes:
        old: None before the first epoch.
        reference: Log-probabilities of the base model; None where nothing pulls to it.
    """

    tree: Tree
    advantages: Tensor
    behaviour: Tensor
    old: Tensor | None = None
    reference: Tensor | None = None

    @classmethod
    def of(cls, tree: Tree, samples: Sequence[Sample], device: torch.device) -> Self:
        """Lay out samples in the order of the tree's response tokens."""
        members = [samples[at] for at in tree.members]
        lengths = [len(one.pair.response) for one in members]
        nan = float("nan")
        behaviour = [one.behaviour or (nan,) * n for one, n in zip(members, lengths, strict=True)]
        advantages = torch.tensor([one.advantage for one in members], device=device)
        return cls(
            tree,
            advantages.repeat_interleave(torch.tensor(lengths, device=device)),
            torch.tensor([value for one in behaviour for value in one], device=device),
        )


def _copy(state: Any) -> Any:
    """Copy nested state, so that later steps do not change it."""
    if isinstance(state, Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {name: _copy(one) for name, one in state.items()}
    if isinstance(state, list):
        return [_copy(one) for one in state]
    return state
