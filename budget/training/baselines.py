"""What a learned policy has to beat, each tuned: static, splits of the budget, rated difficulty."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from budget.environments.trace import TraceEnvironment
from budget.errors import InvalidProblems
from budget.policies.policy import BudgetPolicy, DifficultyPolicy, SplitPolicy, StaticPolicy
from budget.training.evaluate import Outcomes

DECAY_POWERS: Final = (0.5, 1.0, 2.0)
MARGINS: Final = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
RIDGE: Final = 100.0


def refine_choices(choices: Sequence[int]) -> tuple[int, ...]:
    """Insert two choices between neighbours, so that a coarse grid does not handicap a baseline."""
    ratios = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
    finer = {round(choice * ratio) for choice in choices for ratio in ratios}
    return tuple(sorted(choice for choice in finer if choice <= choices[-1]))


def fit_difficulty(environment: TraceEnvironment, choices: tuple[int, ...]) -> DifficultyPolicy:
    """Learn how long right answers are: ridge regression of log tokens on embeddings.

    Raises:
        InvalidProblems: No answer of any problem is right.
    """
    rows, targets = [], []
    for problem, samples in zip(environment.problems, environment.samples, strict=True):
        for embedding, turn in zip(problem.embeddings, samples, strict=True):
            right = turn.tokens[:, -1][turn.is_right[:, -1]]
            if len(right):
                rows.append(embedding)
                targets.append(np.log(np.maximum(right, 1)).mean())
    if not rows:
        raise InvalidProblems("no answer of any problem is right: there is nothing to learn")
    embeddings, logs = np.array(rows, np.float64), np.array(targets)
    centre = embeddings.mean(axis=0)
    centred = embeddings - centre
    gram = centred.T @ centred + RIDGE * max(centred.var(), 1e-6) * np.eye(centred.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (logs - logs.mean()))
    bias = float(logs.mean() - centre @ weights)
    return DifficultyPolicy(choices, weights.astype(np.float32), bias)


def baseline_families(
    environment: TraceEnvironment, choices: tuple[int, ...]
) -> Mapping[str, list[BudgetPolicy]]:
    """Return every baseline with every setting it may be tuned to.

    Args:
        environment: What the difficulty heuristic learns lengths from.
        choices: What the learned policies choose from; baselines choose from a finer grid.
    """
    finer = refine_choices(choices)
    n_turns = [len(problem.texts) for problem in environment.problems]
    expected = sorted({round(float(np.mean(n_turns))), max(n_turns)})
    rated = fit_difficulty(environment, finer)
    return {
        "static": [StaticPolicy((choice,)) for choice in finer],
        "proportional": [SplitPolicy(finer, turns) for turns in expected],
        "decay": [SplitPolicy(finer, turns, power) for turns in expected for power in DECAY_POWERS],
        "difficulty": [
            DifficultyPolicy(finer, rated.weights, rated.bias, margin) for margin in MARGINS
        ],
    }


def cheapest_near_best(outcomes: Sequence[Outcomes], tolerance: float = 0.005) -> int:
    """Return the index of the cheapest outcome within `tolerance` of the best accuracy.

    What a family is tuned to. Without the tolerance a baseline would waste tokens on accuracy
    that nobody could measure, and be easy to beat.
    """
    best = max(outcome.accuracy for outcome in outcomes)
    near = [row for row, one in enumerate(outcomes) if one.accuracy >= best - tolerance]
    return min(near, key=lambda row: outcomes[row].mean_tokens)
