"""Joins tables of different models: what a model would have scored where it was not asked.

Tables share a few models. A query's logit is a difficulty plus a discrimination times the model's
ability; shared models put the abilities of all tables on one scale.
"""

from typing import Final

import numpy as np

from benchmarks.day_one.heads import fit_heads
from benchmarks.day_one.tables import Float64
from router_models.day_one.belief import sigmoid
from router_models.estimators.factors import SCORE_FLOOR
from router_models.types import Float32

SWEEPS: Final = 30
QUERY_PRECISION: Final = 0.5
"""How many answers a query's own difficulty and discrimination are pulled by to all queries'."""
MODEL_PRECISION: Final = 10.0


def complete_scores(scaled: Float32, score: Float64) -> Float64:
    """Fill in what models would have scored; NaN marks what is missing."""
    known = np.isfinite(score)
    logits = np.zeros_like(score)
    patterns, pattern_of = np.unique(known, axis=1, return_inverse=True)
    for place, rows in enumerate(patterns.T):
        at = np.ix_(rows, pattern_of.reshape(-1) == place)
        logits[at] = held_out_logits(scaled[rows], score[at])
    filled = sigmoid(_rank_one(logits, known.astype(np.float64)))
    return np.where(known, score, filled)


def held_out_logits(scaled: Float32, score: Float64) -> Float64:
    """Logits of what each row is predicted to score by the other rows."""
    held = np.clip(fit_heads(scaled, score)[1], SCORE_FLOOR, 1.0 - SCORE_FLOOR)
    logits: Float64 = np.log(held / (1.0 - held))
    return logits


def complete_log_tokens(log_tokens: Float64) -> Float64:
    """Fill in log tokens by a constant of the query and one of the model."""
    known = np.isfinite(log_tokens)
    values = np.where(known, log_tokens, 0.0)
    model = np.zeros(log_tokens.shape[1])
    asked = np.maximum(known.sum(axis=1), 1)
    overall = values.sum() / known.sum()
    for _ in range(SWEEPS):
        query = (values - known * model).sum(axis=1) / asked
        query = np.where(known.any(axis=1), query, overall)
        model = (values - known * query[:, None]).sum(axis=0) / (known.sum(axis=0) + 1.0)
    return np.where(known, log_tokens, query[:, None] + model)


def _rank_one(logits: Float64, known: Float64) -> Float64:
    """Difficulty plus discrimination times ability, by alternating ridge regressions."""
    ability = (logits * known).sum(axis=0) / known.sum(axis=0)
    typical = np.array([0.0, 1.0])
    factors = np.tile(typical, (len(logits), 1))
    for _ in range(SWEEPS):
        ability = (ability - ability.mean()) / ability.std()
        design = np.stack([np.ones_like(ability), ability], axis=1)
        gram = np.einsum("nk,ki,kj->nij", known, design, design, optimize=True)
        gram += QUERY_PRECISION * np.eye(2)
        target = (logits * known) @ design + QUERY_PRECISION * typical
        factors = np.linalg.solve(gram, target[..., None])[..., 0]
        typical = factors.mean(axis=0)
        slope = factors[:, 1:] * known
        left = ((logits - factors[:, :1]) * slope).sum(axis=0)
        ability = left / ((slope**2).sum(axis=0) + MODEL_PRECISION)
    completed: Float64 = factors[:, :1] + factors[:, 1:] * ability
    return completed
