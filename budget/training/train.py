"""Trains TAB by GRPO on any environment; what comes out proposes with numpy alone."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import cos, pi
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from budget.environments.conversation import Conversation, Environment
from budget.policies.mdp import CHOICES, OVERRUN_PENALTY, features, reward
from budget.policies.tab import TabPolicy
from budget.training.grpo import clipped_loss, group_advantages, has_reward_variance
from budget.training.network import TabNetwork
from router_models.estimators.arrays import Scaler

MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How to train.

    Attributes:
        choices: What the policy can propose.
        budgets: Conversation budgets B, one drawn per group, so that one policy serves them all;
            the paper trains one policy per B, which is a single one here.
        penalty: Reward lost per token beyond what is free; the paper's is 0.001.
        free_share: Share of B that costs nothing; the paper's is 1. Below 1 a policy learns to
            spare tokens within B too, where failing anyway costs as much as anything else.
        is_enforced: B cannot be passed, as in a gateway; the paper only punishes passing it.
        steps: Optimiser steps; the paper's are 125.
        groups_per_step: Problems per step; the paper's are 64.
        group_size: Rollouts per problem.
        epochs: Passes over each step's rollouts, which the clipped ratio allows.
        learning_rate: Of Adam, falling to 0 along a cosine.
        clip: Of the probability ratio.
        entropy_bonus: Keeps choices from being given up early; falls to 0 with the rate.
        advantage_eps: Added to a group's deviation.
        n_read: Width of the layer that reads questions.
        n_hidden: Width of the hidden layer.
        weight_decay: Of all weights.
        seed: The same seed gives the same policy.
    """

    choices: tuple[int, ...] = CHOICES
    budgets: tuple[int, ...] = (3000, 5000, 8000, 10_000)
    penalty: float = OVERRUN_PENALTY
    free_share: float = 1.0
    is_enforced: bool = False
    steps: int = 400
    groups_per_step: int = 64
    group_size: int = 8
    epochs: int = 2
    learning_rate: float = 3e-3
    clip: float = 0.2
    entropy_bonus: float = 0.01
    advantage_eps: float = 1e-4
    n_read: int = 16
    n_hidden: int = 64
    weight_decay: float = 1e-3
    seed: int = 0


def with_token_price(settings: TrainingSettings, price: float) -> TrainingSettings:
    """Let every token cost `price` right answers, and enforce the budget as a gateway does.

    The paper's reward minds tokens beyond B alone, so within B a policy has no reason to spare
    them on questions that it will get wrong anyway. Groups differ by little here, so they are not
    divided by their spread, and little entropy is enough to outweigh them.
    """
    return replace(
        settings,
        penalty=price,
        free_share=0.0,
        is_enforced=True,
        advantage_eps=1.0,
        entropy_bonus=0.0005,
        learning_rate=0.01,
    )


class StepFigures(NamedTuple):
    """One point of the learning curve: means over the step's rollouts."""

    step: int
    reward: float
    accuracy: float
    tokens: float
    groups_with_spread: float


def start_groups(
    environment: Environment, settings: TrainingSettings, rng: np.random.Generator
) -> list[Conversation]:
    """Draw problems and budgets; rollouts of one group follow each other."""
    problems = environment.problems
    conversations = []
    for row in rng.choice(len(problems), settings.groups_per_step).tolist():
        budget = settings.budgets[int(rng.integers(len(settings.budgets)))]
        solvers = environment.start(row, rng, settings.group_size)
        conversations += [
            Conversation(problems[row], solver, budget, settings.is_enforced) for solver in solvers
        ]
    return conversations


def draw_choices(log_odds: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw one choice per row of log probabilities; shape ``(n,)``."""
    shares = torch.from_numpy(rng.random(len(log_odds), np.float32))
    drawn = torch.searchsorted(log_odds.exp().cumsum(1), shares[:, None], right=True)[:, 0]
    return drawn.clamp(max=log_odds.shape[1] - 1)


def score_groups(conversations: Sequence[Conversation], settings: TrainingSettings) -> Tensor:
    """Return rewards of finished conversations; shape ``(n_groups, group_size)``."""
    free_tokens = np.array([one.budget_tokens for one in conversations]) * settings.free_share
    tokens = np.array([one.used_tokens for one in conversations])
    is_right = np.array([one.is_right for one in conversations])
    rewards = reward(is_right, tokens, free_tokens, settings.penalty)
    return torch.from_numpy(rewards).reshape(-1, settings.group_size)


def measure_step(step: int, conversations: Sequence[Conversation], rewards: Tensor) -> StepFigures:
    """Return the step's point of the learning curve."""
    return StepFigures(
        step,
        float(rewards.mean()),
        float(np.mean([one.is_right for one in conversations])),
        float(np.mean([one.used_tokens for one in conversations])),
        float(has_reward_variance(rewards).float().mean()),
    )


class Turns(Protocol):
    """What a kind of policy keeps of its rollouts' turns: one row each, `rollout` says whose."""

    @property
    def rollout(self) -> Tensor:
        """Which conversation a turn belongs to; shape ``(n,)``."""
        ...

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the columns."""
        ...


Played = TypeVar("Played", bound=Turns)
Seen = TypeVar("Seen")


@dataclass(slots=True, eq=False)
class TrainingRun(ABC, Generic[Played, Seen]):
    """GRPO of any kind of policy, one step at a time; subclasses say how it plays and learns.

    Attributes:
        environment: What is played.
        settings: How.
        optimiser: Adam on what learns.
        rng: Draws problems, budgets, samples and choices.
        curve: One point per step taken.
    """

    environment: Environment
    settings: TrainingSettings
    optimiser: torch.optim.Optimizer
    rng: np.random.Generator
    curve: list[StepFigures] = field(default_factory=list)

    @property
    @abstractmethod
    def kind(self) -> str:
        """Of the policy."""

    @abstractmethod
    def learned(self) -> dict[str, Tensor]:
        """Return the weights that learn, by name."""

    @abstractmethod
    def load(self, learned: dict[str, Tensor]) -> None:
        """Take over what `learned` returned.

        Raises:
            ValueError: It belongs to another policy.
        """

    @abstractmethod
    def play(self, conversations: Sequence[Conversation]) -> tuple[Played, Seen]:
        """Answer every turn of every conversation; returns the turns and what they all saw."""

    @abstractmethod
    def learn(self, turns: Played, seen: Seen, advantages: Tensor, bonus: float) -> None:
        """Take one optimiser step on `turns`; `advantages` has one entry per turn."""

    def checkpoint(self) -> dict[str, Any]:
        """Return everything that `resume` needs: tensors and plain values."""
        return {
            "kind": self.kind,
            "settings": asdict(self.settings),
            "learned": {name: one.clone() for name, one in self.learned().items()},
            "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.bit_generator.state,
            "curve": [tuple(point) for point in self.curve],
        }

    def resume(self, checkpoint: dict[str, Any]) -> None:
        """Go on where a run with the same settings stopped; the end is the same to the bit.

        Raises:
            ValueError: The checkpoint is of another kind, of other settings or of another policy.
        """
        for name, own in (("kind", self.kind), ("settings", asdict(self.settings))):
            if checkpoint[name] != own:
                raise ValueError(f"the checkpoint has {name} {checkpoint[name]}, not {own}")
        self.load(checkpoint["learned"])
        self.optimiser.load_state_dict(checkpoint["optimiser"])
        self.rng.bit_generator.state = checkpoint["rng"]
        self.curve = [StepFigures(*point) for point in checkpoint["curve"]]

    def take_steps(self, show: Callable[[Iterable[int]], Iterable[int]] = iter) -> None:
        """Take the steps that are left; `show` may wrap them in a progress bar."""
        for step in show(range(len(self.curve), self.settings.steps)):
            self.step(step)

    def step(self, step: int) -> None:
        """Roll out groups, score them, and move what learns."""
        settings = self.settings
        remaining = 0.5 * (1.0 + cos(pi * step / settings.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * remaining
        conversations = start_groups(self.environment, settings, self.rng)
        turns, seen = self.play(conversations)
        rewards = score_groups(conversations, settings)
        is_telling = has_reward_variance(rewards)
        if is_telling.any():
            kept = is_telling[turns.rollout // settings.group_size]
            chosen = type(turns)(*(column[kept] for column in turns))
            advantages = group_advantages(rewards, settings.advantage_eps).flatten()
            bonus = settings.entropy_bonus * remaining
            for _ in range(settings.epochs):
                self.learn(chosen, seen, advantages[chosen.rollout], bonus)
        self.curve.append(measure_step(step, conversations, rewards))


class _Turns(NamedTuple):
    """Every turn of a step's rollouts, one row each.

    Attributes:
        rollout: Which conversation it belongs to; shape ``(n,)``.
        turn: Its index there; same shape.
        features: Shape ``(n, len(FEATURES))``.
        choice: What was drawn; shape ``(n,)``.
        log_probability: Of that choice when it was drawn; same shape.
    """

    rollout: Tensor
    turn: Tensor
    features: Tensor
    choice: Tensor
    log_probability: Tensor


@dataclass(slots=True, eq=False)
class Trainer(TrainingRun[_Turns, tuple[Tensor, Tensor]]):
    """Trains TAB's network.

    Attributes:
        network: What learns.
    """

    network: TabNetwork = field(kw_only=True)

    @classmethod
    def begin(
        cls, environment: Environment, settings: TrainingSettings, policy: type[TabPolicy]
    ) -> Self:
        """Start a run with fresh weights."""
        embeddings = np.concatenate([problem.embeddings for problem in environment.problems])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = TabNetwork(
                policy,
                settings.choices,
                Scaler.fit(embeddings),
                settings.n_read,
                settings.n_hidden,
            )
        optimiser = torch.optim.AdamW(
            network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        rng = np.random.default_rng(settings.seed)
        return cls(environment, settings, optimiser, rng, network=network)

    @property
    def kind(self) -> str:
        """Of the policy."""
        return self.network.policy.kind

    def run(self, show: Callable[[Iterable[int]], Iterable[int]] = iter) -> TabPolicy:
        """Take the steps that are left, and return what came of them."""
        self.take_steps(show)
        return self.network.to_policy()

    def learned(self) -> dict[str, Tensor]:
        """Return the network's weights."""
        return self.network.state_dict()

    def load(self, learned: dict[str, Tensor]) -> None:
        """Take over what `learned` returned."""
        self.network.load_state_dict(learned)

    def play(self, conversations: Sequence[Conversation]) -> tuple[_Turns, tuple[Tensor, Tensor]]:
        """Answer every turn, drawing from the network's distribution; what is seen is the plans."""
        plans = self._plans(conversations)
        with torch.no_grad():
            questions = self.network.read_plans(*plans)
        played = []
        for turn in range(questions.shape[1]):
            active = [row for row, one in enumerate(conversations) if not one.is_over]
            rows = torch.tensor(active)
            states = [conversations[row].state() for row in active]
            sees_plan = self.network.policy.sees_plan
            seen = np.stack([features(state, sees_plan=sees_plan) for state in states])
            with torch.no_grad():
                groups = rows // self.settings.group_size
                log_odds = self.network(questions[groups, turn], torch.from_numpy(seen))
            drawn = draw_choices(log_odds, self.rng)
            for row, choice in zip(active, drawn.tolist(), strict=True):
                conversations[row].answer(self.settings.choices[choice])
            taken = log_odds.gather(1, drawn[:, None])[:, 0]
            turns = torch.full_like(rows, turn)
            played.append(_Turns(rows, turns, torch.from_numpy(seen), drawn, taken))
        return _Turns(*(torch.cat(column) for column in zip(*played, strict=True))), plans

    def learn(
        self, turns: _Turns, seen: tuple[Tensor, Tensor], advantages: Tensor, bonus: float
    ) -> None:
        """Take one optimiser step on `turns`."""
        questions = self.network.read_plans(*seen)
        asked = questions[turns.rollout // self.settings.group_size, turns.turn]
        log_odds = self.network(asked, turns.features)
        taken = log_odds.gather(1, turns.choice[:, None])[:, 0]
        loss = clipped_loss(taken, turns.log_probability, advantages, self.settings.clip)
        entropy = -(log_odds.exp() * log_odds).sum(dim=1).mean()
        self.optimiser.zero_grad()
        (loss - bonus * entropy).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        self.optimiser.step()

    def _plans(self, conversations: Sequence[Conversation]) -> tuple[Tensor, Tensor]:
        """Scaled embeddings of each group's problem, padded with zeros, and their lengths."""
        plans = [one.problem.embeddings for one in conversations[:: self.settings.group_size]]
        lengths = [len(plan) for plan in plans]
        padded = np.zeros((len(plans), max(lengths), plans[0].shape[1]), np.float32)
        for row, plan in zip(padded, plans, strict=True):
            row[: len(plan)] = self.network.scaler.apply(plan)
        return torch.from_numpy(padded), torch.tensor(lengths)
