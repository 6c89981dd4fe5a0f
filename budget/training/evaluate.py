"""Measures policies: accuracy against tokens, at matched accuracy and at matched tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from budget.environments.conversation import Conversation, Environment
from budget.environments.trace import TraceEnvironment
from budget.policies.mdp import allot
from budget.policies.policy import BudgetPolicy

Figures = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """How every problem of an environment ended.

    Attributes:
        is_right: 1 where the final answer is; shape ``(n_problems,)``.
        tokens: Really used; same shape.
        allotted_tokens: Sum over the turns; same shape.
        violations: Conversations that used more than their budget.
    """

    is_right: Figures
    tokens: Figures
    allotted_tokens: Figures
    violations: int

    @property
    def accuracy(self) -> float:
        """Share of right final answers."""
        return float(self.is_right.mean())

    @property
    def mean_tokens(self) -> float:
        """Tokens per conversation."""
        return float(self.tokens.mean())

    @property
    def e3(self) -> float:
        """``accuracy ** 2 / tokens``, arXiv 2604.05164."""
        return self.accuracy**2 / max(self.mean_tokens, 1e-9)


def evaluate_policy(
    policy: BudgetPolicy, environment: Environment, budget_tokens: int, seed: int = 0
) -> Outcomes:
    """Play every problem once with the policy's likeliest choices.

    Policies that are compared with the same seed meet the same draws of the solver.
    """
    draws, choices = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    ended = []
    for index, problem in enumerate(environment.problems):
        (solver,) = environment.start(index, draws)
        conversation = Conversation(problem, solver, budget_tokens)
        while not conversation.is_over:
            conversation.answer(allot(policy, conversation.state(), choices).proposed_tokens)
        ended.append(conversation)
    tokens = np.array([one.used_tokens for one in ended], np.float64)
    return Outcomes(
        np.array([one.is_right for one in ended], np.float64),
        tokens,
        np.array([one.allotted_tokens for one in ended], np.float64),
        int((tokens > budget_tokens).sum()),
    )


@dataclass(frozen=True, slots=True, eq=False)
class ParetoFront:
    """Pareto front of accuracy over tokens of a family of policies, by rising tokens.

    Attributes:
        tokens: Shape ``(n_points,)``, ascending.
        accuracy: Same shape, ascending.
    """

    tokens: Figures
    accuracy: Figures

    @classmethod
    def from_points(cls, tokens: Figures, accuracy: Figures) -> "ParetoFront":
        """Keep the points that no cheaper point beats."""
        order = np.lexsort((-accuracy, tokens))
        tokens, accuracy = tokens[order], accuracy[order]
        best = np.maximum.accumulate(accuracy)
        is_better = np.concatenate([[True], accuracy[1:] > best[:-1]])
        return cls(tokens[is_better], accuracy[is_better])

    def tokens_at(self, accuracy: float) -> float:
        """Tokens that this accuracy takes, mixing the two points beside it.

        Beyond the last point it is what the last one takes, so that nothing is won by more
        accuracy than the family has.
        """
        return float(np.interp(accuracy, self.accuracy, self.tokens))

    def accuracy_at(self, tokens: float) -> float:
        """Accuracy that these tokens buy, mixing the two points beside it."""
        return float(np.interp(tokens, self.tokens, self.accuracy))


def oracle_front(environment: TraceEnvironment, smallest: int, seed: int = 0) -> ParetoFront:
    """What a clairvoyant spends who cannot allot less than `smallest` to a turn.

    It knows every drawn answer: it solves the cheapest problems first, and gives every turn that
    does not help the smallest allotment. It has no budget but the number of problems it solves.
    """
    draws = np.random.default_rng([seed, 0])
    least, extra = [], []
    for index, problem in enumerate(environment.problems):
        (solver,) = environment.start(index, draws)
        idle, solved = 0, 0.0
        for turn, is_decisive in enumerate(problem.is_decisive):
            idle_tokens = solver.answer(turn, smallest).tokens
            right = solver.cheapest_right(turn, smallest)
            idle += idle_tokens
            solved += idle_tokens if not is_decisive else right
        least.append(idle)
        extra.append(max(solved - idle, 0.0))
    n_problems = len(environment.problems)
    costs = np.sort(np.array(extra))
    costs = np.concatenate([[0.0], costs[np.isfinite(costs)]])
    tokens = (np.sum(least) + np.cumsum(costs)) / n_problems
    return ParetoFront.from_points(tokens, np.arange(len(costs)) / n_problems)


def bootstrap(n_problems: int, replicates: int, seed: int = 0) -> Figures:
    """Draw problems with replacement; weights of shape ``(replicates, n_problems)``, rows sum to 1.

    The first row is the sample itself.
    """
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n_problems, np.full(n_problems, 1.0 / n_problems), replicates)
    counts[0] = 1
    weights: Figures = counts / n_problems
    return weights


def interval(replicates: Any, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile interval."""
    tail = 100.0 * (1.0 - confidence) / 2.0
    low, high = np.percentile(replicates, (tail, 100.0 - tail))
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A policy against a family of others; each figure with its 95 % interval.

    Attributes:
        accuracy: Share of right final answers.
        tokens: Per conversation.
        saved: Share of tokens that the family would need more for the same accuracy.
        gained: Accuracy beyond the family's for the same tokens.
        e3: ``accuracy ** 2 / tokens``.
    """

    accuracy: tuple[float, float, float]
    tokens: tuple[float, float, float]
    saved: tuple[float, float, float]
    gained: tuple[float, float, float]
    e3: tuple[float, float, float]


def compare(
    runs: Sequence[Outcomes], family: Sequence[Outcomes], replicates: int = 1000, seed: int = 0
) -> Comparison:
    """Compare a policy, trained with several seeds, with a family such as all static budgets.

    Both are resampled by problem, together, and the policy by training seed as well.

    Args:
        runs: Of the policy, one per training seed, on the problems of `family`.
        family: One per member.
        replicates: Of the bootstrap.
        seed: Of the bootstrap.
    """
    weights = bootstrap(len(runs[0].tokens), replicates, seed)
    seeds = np.random.default_rng([seed, 1]).multinomial(
        len(runs), np.full(len(runs), 1.0 / len(runs)), replicates
    )
    seeds[0] = 1
    shares = seeds / len(runs)
    accuracy = _mean(weights, shares, [run.is_right for run in runs])
    tokens = _mean(weights, shares, [run.tokens for run in runs])
    family_accuracy = weights @ np.stack([one.is_right for one in family], axis=1)
    family_tokens = weights @ np.stack([one.tokens for one in family], axis=1)
    saved, gained = np.empty(replicates), np.empty(replicates)
    for row in range(replicates):
        front = ParetoFront.from_points(family_tokens[row], family_accuracy[row])
        saved[row] = 1.0 - tokens[row] / front.tokens_at(accuracy[row])
        gained[row] = accuracy[row] - front.accuracy_at(tokens[row])
    figures = (accuracy, tokens, saved, gained, accuracy**2 / tokens)
    return Comparison(*((float(one[0]), *interval(one)) for one in figures))


def _mean(weights: Figures, shares: Figures, columns: Sequence[Figures]) -> Figures:
    per_run = weights @ np.stack(columns, axis=1)
    mean: Figures = (per_run * shares).sum(axis=1)
    return mean
