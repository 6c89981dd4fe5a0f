"""Made-up evaluations with something to learn in them."""

import numpy as np

from router_models.types import Evaluations

MODELS = ("cheap", "coder", "writer", "dear")
DIMENSION = 12


def made_up(n_queries: int = 240, *, seed: int = 0, share_answered: float = 1.0) -> Evaluations:
    """Queries of four tasks, each a direction in space; every model is good at something else."""
    rng = np.random.default_rng(seed)
    tasks = rng.integers(0, 4, n_queries)
    directions = np.random.default_rng(99).standard_normal((4, DIMENSION))
    embeddings = directions[tasks] + 0.3 * rng.standard_normal((n_queries, DIMENSION))
    skill = np.array(
        [[0.7, 0.2, 0.2, 0.8], [0.2, 0.9, 0.2, 0.8], [0.2, 0.3, 0.9, 0.8], [0.1, 0.2, 0.3, 0.8]]
    )
    price = np.array([0.0001, 0.0005, 0.0006, 0.005])
    quality = (rng.random((n_queries, 4)) < skill[tasks]).astype(np.float32)
    cost = (price * rng.uniform(0.5, 1.5, (n_queries, 4))).astype(np.float32)
    unanswered = rng.random((n_queries, 4)) >= share_answered
    # At least one model answers every query.
    unanswered[np.arange(n_queries), rng.integers(0, 4, n_queries)] = False
    quality[unanswered] = cost[unanswered] = np.nan
    names = np.array(["sums", "code", "letters", "riddles"])
    return Evaluations(
        embeddings.astype(np.float32), quality, cost, MODELS, tuple(names[tasks].tolist())
    )
