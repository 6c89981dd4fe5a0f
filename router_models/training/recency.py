"""Which models do otherwise lately than they did, and how fast their older answers are forgotten.

A mean over a long log hardly moves when a model gets worse: of 10,000 answers 500 are a twentieth.
So for each model it is asked how well its latest answers would have been predicted, from cells of
clusters from which they were held out, had its older ones counted less. Only where that is better
beyond doubt they do: to forget what is still true makes a router worse. Age counts in a model's own
answers. So what was found stays true when routers hardly use the model any more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from router_models.evaluation.log_rows import SPLITS, LoggedRows
from router_models.training.kmeans import assign, cluster, normalize_rows
from router_models.types import Float64

HALF_LIVES: Final = (1_000, 300, 100)
"""In graded answers of the model."""
LEAST_TIMES: Final = 2
"""A half-life is tried where the model has so many times as many answers."""
MOST_ANSWERS: Final = 20_000
"""The latest ones, that are looked at."""
CLUSTERS: Final = 16
FOLDS: Final = 5
PRIOR_ROWS: Final = 10.0
LEAST_Z: Final = 3.5
"""Standard errors by which the latest answers must be predicted better. Three half-lives of a dozen
models are compared at each training."""
LEAST_WEIGHT: Final = 2.0**-10
"""What the oldest answers still count for."""
JUDGED_HALF_LIVES: Final = 2
"""Of the changed model's answers, since which a router is judged."""
LEAST_JUDGED: Final = 1_000
"""Answers that a router is judged on in any case; a fifth of them are held out."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Which models do otherwise than they did.

    Attributes:
        half_lives: After how many more answers of a model one counts half, for each that changed.
    """

    half_lives: Mapping[str, int] = field(default_factory=dict)

    @property
    def figures(self) -> Mapping[str, Any]:
        """Name the models, where there are any, for reports."""
        return {"half_life_answers": dict(self.half_lives)} if self.half_lives else {}

    def fading(self, rows: LoggedRows) -> LoggedRows:
        """Let the older answers of models that changed count less."""
        if not self.half_lives:
            return rows
        factor = np.ones(len(rows.query))
        for own, half_life in self._own(rows):
            factor[own] = _faded(len(own), half_life)
        return rows.weighed(factor)

    def since(self, rows: LoggedRows) -> LoggedRows:
        """Keep the answers since the latest change, to judge by: older ones speak for what was."""
        starts = [
            int(own[-min(JUDGED_HALF_LIVES * half_life, len(own))])
            for own, half_life in self._own(rows)
        ]
        if not starts:
            return rows
        return rows.latest(max(len(rows.query) - max(starts), LEAST_JUDGED))

    def _own(self, rows: LoggedRows) -> Iterator[tuple[NDArray[np.intp], int]]:
        """Yield the places of each such model's answers, and its half-life."""
        for name, half_life in self.half_lives.items():
            yield np.flatnonzero(rows.model == rows.models.index(name)), half_life


def find_changes(rows: LoggedRows, seed: int) -> Changes:
    """Compare each model's latest answers with its older ones.

    The test rows, which routers are judged on, are not looked at.
    """
    learned = np.flatnonzero(rows.split[rows.query] != SPLITS.index("test"))[-MOST_ANSWERS:]
    if not len(learned):
        return Changes()
    of_query, found = _clusters(rows, learned, seed), {}
    for model, name in enumerate(rows.models):
        own = learned[rows.model[learned] == model]
        half_life = _half_life(rows, own, of_query[rows.query[own]])
        if half_life is not None:
            found[name] = half_life
    return Changes(found)


def _clusters(rows: LoggedRows, learned: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """Return the cluster of each query that is looked at, 0 for the others."""
    queries = np.unique(rows.query[learned])
    unit = normalize_rows(rows.embeddings[queries])
    found = np.zeros(len(rows.embeddings), np.intp)
    found[queries], _ = assign(unit, cluster(unit, CLUSTERS, seed))
    return found


def _half_life(rows: LoggedRows, own: NDArray[np.intp], of_answer: NDArray[np.intp]) -> int | None:
    """Compare half-lives for one model, by its answers in order of time and their clusters."""
    tried = [half for half in HALF_LIVES if LEAST_TIMES * half <= len(own)]
    if not tried:
        return None
    weight = np.ones(len(own)) if rows.weight is None else rows.weight[own].astype(np.float64)
    score, fold = rows.score[own].astype(np.float64), rows.query[own] % FOLDS

    def squared_errors(counts: Float64) -> Float64:
        errors = np.empty(len(own))
        for number in range(FOLDS):
            held = fold == number
            w = (weight * counts)[~held]
            got = w * score[~held]
            mean = (got.sum() + PRIOR_ROWS * 0.5) / (w.sum() + PRIOR_ROWS)
            total = np.bincount(of_answer[~held], w, CLUSTERS) + PRIOR_ROWS
            cells = (np.bincount(of_answer[~held], got, CLUSTERS) + PRIOR_ROWS * mean) / total
            errors[held] = (cells[of_answer[held]] - score[held]) ** 2
        return errors

    plain = squared_errors(np.ones(len(own)))
    share = weight * _faded(len(own), HALF_LIVES[-1])
    share /= share.sum()
    gains = [_gain(plain - squared_errors(_faded(len(own), half)), share) for half in tried]
    best, z = max(gains)
    return tried[gains.index((best, z))] if z >= LEAST_Z else None


def _faded(answers: int, half_life: int) -> Float64:
    """What each of so many answers counts for, the last one 1."""
    age = np.arange(answers - 1, -1, -1.0)
    faded: Float64 = np.maximum(0.5 ** (age / half_life), LEAST_WEIGHT)
    return faded


def _gain(difference: Float64, share: Float64) -> tuple[float, float]:
    """Return the mean by shares, and how many standard errors it is from 0."""
    mean = float(share @ difference)
    error = float(np.sqrt(share**2 @ (difference - mean) ** 2))
    return mean, mean / error if error > 0 else 0.0
