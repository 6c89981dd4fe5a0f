"""ParetoBandit's bandit (arXiv 2604.00136, PyPI `paretobandit`), told what our loop is told.

Its policy is used as published: disjoint LinUCB with geometric forgetting, over 25 whitened
principal components and a bias. Its own cost term ranks models by list price on a logarithmic
scale; here it gets the same utility as all contenders instead, with the expected cost of each
model at the prices of the day. It begins with what the prior says of each model, as so many
observations (`n_effective`), as it begins with offline data in the paper.
"""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.closed_loop.world import Float64, World

PACKAGE: Final = "pareto_bandit"
COMPONENTS: Final = 25


@dataclass(frozen=True, slots=True)
class BanditSettings:
    """What is tuned.

    Attributes:
        alpha: Of the exploration bonus.
        forgetting: What an observation is worth after one more turn.
        n_effective: Observations that the prior is worth.
    """

    alpha: float
    forgetting: float
    n_effective: float


GRID: Final = tuple(
    BanditSettings(alpha, forgetting, n_effective)
    for alpha in (0.003, 0.01, 0.03)
    for forgetting in (0.999, 0.9997, 1.0)
    for n_effective in (300.0, 1000.0, 3000.0)
)


def is_installed() -> bool:
    """Whether the package can be imported."""
    return find_spec(PACKAGE) is not None


def features_of(embeddings: NDArray[np.float32]) -> Float64:
    """Whiten the principal components, and add a bias; shape ``(n_queries, COMPONENTS + 1)``."""
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    del values
    whitened = left[:, :COMPONENTS] * np.sqrt(len(left))
    return np.column_stack([whitened, np.ones(len(left))])


def run_bandit(
    world: World,
    features: Float64,
    guess: Float64,
    grades: Float64,
    paid_usd: float,
    settings: BanditSettings,
    seed: int,
) -> NDArray[np.intp]:
    """Let the bandit route all turns; return the column of the model that answered each.

    Args:
        features: Of every query.
        guess: Quality that the prior predicts of each model, on the queries of the first day;
            shape ``(n_queries_of_a_day, n_models)``.
        grades: Of the answer of every model to each turn, NaN where that would not be graded;
            shape ``(n_turns, n_models)``.
    """
    policy_type: Any = import_module(f"{PACKAGE}.policy").DisjointLinUCBPolicy
    models = world.answers.models
    policy = policy_type([], features.shape[1], settings.alpha, 1.0, settings.forgetting, seed)
    spent = Spent(len(models))
    chosen: list[int] = []
    for day, queries in enumerate(world.asked):
        hosted = list(world.hosted(day))
        for model in set(hosted) - set(policy.models):
            _begin(policy, model, features[world.asked[0]], guess[:, models.index(model)], settings)
        for query in queries:
            expected = spent.expected_usd(world.price(day)) / paid_usd
            penalties = dict(zip(models, expected.tolist(), strict=True))
            context = features[query]
            model, _ = policy.select_arm(context, candidates=hosted, cost_penalties=penalties)
            policy.mark_selected(model)
            column = models.index(model)
            reward = float(grades[len(chosen), column])
            chosen.append(column)
            written = world.answers.completion_tokens[query, column]
            spent.add(column, float(world.answers.prompt_tokens[query]), float(written))
            if np.isfinite(reward):
                policy.update(model, context, reward, advance_time=False)
    return np.array(chosen, np.intp)


def _begin(
    policy: Any, model: str, seen: Float64, guess: Float64, settings: BanditSettings
) -> None:
    """Add a model, with what the prior says of it."""
    policy.add_arm(model)
    weight = settings.n_effective / len(seen)
    policy.A[model] = policy.A[model] + weight * seen.T @ seen
    policy.b[model] = weight * seen.T @ guess
    policy.refresh_inverse_cache()


class Spent:
    """Tokens that each model used so far; a new one is expected to use what others do."""

    def __init__(self, n_models: int) -> None:
        self.sums = np.zeros((n_models, 2))
        self.count = np.zeros(n_models)

    def add(self, column: int, prompt: float, completion: float) -> None:
        """Count one call."""
        self.sums[column] += (prompt, completion)
        self.count[column] += 1

    def expected_usd(self, price: Float64) -> Float64:
        """Expect of each model's next call what its calls took so far, at these prices."""
        usual = np.array([200.0, 200.0]) if not self.count.any() else self.sums.sum(axis=0)
        usual = usual / max(self.count.sum(), 1.0)
        mean = (self.sums + 10.0 * usual) / (self.count + 10.0)[:, None]
        expected: Float64 = (mean * price / 1e6).sum(axis=1)
        return expected
