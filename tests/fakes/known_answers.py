"""Made-up answers of models that differ mainly in one ability."""

import numpy as np

from benchmarks.day_one.prior import KnownAnswers
from router_models.day_one.belief import Float64, sigmoid

DIMENSION = 6
CENTRES = np.random.default_rng(7).standard_normal((8, DIMENSION))


def abilities(n_models: int) -> Float64:
    """Evenly spread, the weakest first."""
    return np.linspace(-1.5, 1.5, n_models)


def known_answers(
    n_models: int = 10, n_queries: int = 400, *, seed: int = 0, ability: Float64 | None = None
) -> KnownAnswers:
    """Queries around eight centres: their first direction says how hard they are, the second how
    much they tell models apart; the stronger a model, the more it writes.
    """
    rng = np.random.default_rng(seed)
    embeddings = CENTRES[rng.integers(0, 8, n_queries)]
    embeddings = embeddings + 0.3 * rng.standard_normal((n_queries, DIMENSION))
    strength = abilities(n_models) if ability is None else ability
    slope = np.exp(0.4 * embeddings[:, 1])
    logit = slope[:, None] * (strength - 0.7 * embeddings[:, :1])
    score = (rng.random(logit.shape) < sigmoid(logit)).astype(np.float64)
    tokens = np.exp(4.0 + 0.5 * embeddings[:, 2:3] + 0.3 * strength)
    tokens = np.round(tokens * np.exp(0.1 * rng.standard_normal(tokens.shape)))
    return KnownAnswers(
        tuple(f"model-{index}" for index in range(len(strength))),
        embeddings.astype(np.float32),
        score,
        tokens,
        np.full(n_queries, 50.0),
        np.exp(strength),
    )
