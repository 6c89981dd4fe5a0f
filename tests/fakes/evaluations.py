"""Made-up evaluations with something to learn in them."""

from dataclasses import replace

import numpy as np

from router_models.types import Evaluations, TokenCounts

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


def counted(rows: Evaluations, *, prompt_usd: float = 1e-7, seed: int = 0) -> Evaluations:
    """Give every answer a prompt of 100 to 1,000 tokens, the answer's cost in USD for the rest."""
    rng = np.random.default_rng(seed)
    answered = np.isfinite(rows.quality)
    prompt = np.broadcast_to(rng.integers(100, 1000, (len(answered), 1)), answered.shape)
    dearness = np.array([1e-6, 2e-6, 4e-6, 8e-6])
    completion = np.where(answered, np.rint(rows.cost_usd.astype(np.float64) / dearness), np.nan)
    cost = prompt * prompt_usd + completion * dearness
    tokens = TokenCounts(
        np.where(answered, prompt, np.nan).astype(np.float32),
        completion.astype(np.float32),
        np.stack([np.full(4, prompt_usd), dearness]),
    )
    return replace(rows, cost_usd=cost.astype(np.float32), tokens=tokens)
