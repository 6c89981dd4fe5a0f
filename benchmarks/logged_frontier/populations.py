"""Queries whose every answer is known, the routers that are measured on them, and made-up logs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.router_acceptance.run import one_each
from benchmarks.routing_frontier.protocol import read, rows_of
from gateway.routing.encoders import load_encoder
from router_models.decide import THOMPSON_DRAWS
from router_models.estimators.guard import GuardedEstimator
from router_models.evaluation.off_policy import LoggedChoices
from router_models.statistics import model_means, select
from router_models.training.settings import KMeansSettings
from router_models.training.train import train
from router_models.types import Evaluations, Prediction

Float64 = NDArray[np.float64]

FEW_ROWS: Final = 500
"""That the router that serves has learned from; the candidate learned from all."""
SERVED_AT: Final = 10**-1.5
"""Willingness to pay of the callers whose turns are in the log, USD per unit of quality."""
POINTS: Final = (SERVED_AT / 10.0, SERVED_AT, SERVED_AT * 10.0)
"""Willingness to pay at which routers are measured."""


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """All that can be known of some queries.

    Attributes:
        quality: Of every answer; shape ``(n_queries, n_models)``.
        cost_usd: Same shape.
        predictions: Of the routers, by role.
        stderr: Of the quality that the current router predicts; same shape.
        prior: Mean quality and cost per model in other rows; shape ``(2, n_models)``.
    """

    quality: Float64
    cost_usd: Float64
    predictions: Mapping[str, Prediction]
    stderr: Float64
    prior: Float64

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(map(str, range(self.quality.shape[1])))

    def utility(self, role: str, paid_usd: float) -> Float64:
        """What a router expects of each model at a price."""
        found = self.predictions[role]
        return found.quality.astype(np.float64) - found.cost_usd / paid_usd

    def propensities(self, kind: str, epsilon: float) -> Float64:
        """Explore as `router_models.decide` does; shape ``(n_queries, n_models)``."""
        utility = self.utility("current", SERVED_AT)
        n_queries, n_models = utility.shape
        rows = np.arange(n_queries)
        if kind == "epsilon":
            odds = np.full(utility.shape, epsilon / n_models)
            odds[rows, utility.argmax(axis=1)] += 1.0 - epsilon
            return odds
        rng = np.random.default_rng(0)
        wins = np.zeros(utility.shape)
        for _ in range(THOMPSON_DRAWS):
            drawn = utility + self.stderr * rng.standard_normal(utility.shape)
            wins[rows, drawn.argmax(axis=1)] += 1.0
        shares: Float64 = (wins + 1.0 / n_models) / (THOMPSON_DRAWS + 1.0)
        return shares


def draw_log(
    population: Population, odds: Float64, rows: int, rng: np.random.Generator
) -> tuple[LoggedChoices, NDArray[np.intp]]:
    """Draw queries, and a model for each; returns the log and which queries they are."""
    at = rng.integers(0, len(odds), rows)
    passed = rng.random((rows, 1)) > odds[at].cumsum(axis=1)
    answered = np.minimum(passed.sum(axis=1), odds.shape[1] - 1)
    choices = LoggedChoices(
        np.empty((rows, 0), np.float32),
        answered,
        population.quality[at, answered].astype(np.float32),
        population.cost_usd[at, answered].astype(np.float32),
        odds[at].astype(np.float32),
        population.models,
        np.arange(rows),
    )
    return choices, at


def real(folder: Path, name: str) -> Population:
    """Take the test rows of a table; routers learn from one answer to each train row."""
    rows = rows_of(read(folder, name).embedded(load_encoder("static")))
    return _population(rows.train, rows.val, rows.test)


def made_up(models: int, *, is_strict: bool = False) -> Population:
    """Make queries of twelve topics, models good at some of them, and 20,000 queries to measure.

    Args:
        models: How many.
        is_strict: Grades and prices differ from those that routers learned from: half of the good
            answers are refused, and each model's price has changed.
    """
    rng = np.random.default_rng(models)
    topics = rng.standard_normal((12, 16))
    skill = np.linspace(-1.0, 1.2, models) + rng.normal(0.0, 1.0, (12, models))
    price = np.geomspace(2e-4, 1.2e-2, models) * rng.lognormal(0.0, 0.3, models)

    def draw(queries: int) -> Evaluations:
        topic = rng.integers(0, 12, queries)
        near = topics[topic] + 0.7 * rng.standard_normal((queries, 16))
        hard = rng.normal(0.0, 0.8, (queries, 1))
        right = 1.0 / (1.0 + np.exp(hard - skill[topic]))
        quality = rng.random(right.shape) < right
        tokens = np.exp(0.3 * hard) * rng.lognormal(0.0, 0.6, right.shape)
        return Evaluations(
            near.astype(np.float32),
            quality.astype(np.float32),
            (price * tokens).astype(np.float32),
            tuple(map(str, range(models))),
        )

    found = _population(draw(3000), draw(300), draw(20_000))
    if not is_strict:
        return found
    refused = rng.random(found.quality.shape) < 0.5
    return replace(
        found,
        quality=np.where(refused, 0.0, found.quality),
        cost_usd=found.cost_usd * rng.lognormal(0.0, 0.8, models),
    )


def _population(rows: Evaluations, validation: Evaluations, measured: Evaluations) -> Population:
    rng = np.random.default_rng(0)
    log = one_each(rows, rng)
    few = select(log, rng.choice(len(log.quality), FEW_ROWS, replace=False))
    routers = {
        role: train(learned, validation, "kmeans", 0, KMeansSettings())
        for role, learned in (("current", few), ("candidate", log))
    }
    return Population(
        measured.quality.astype(np.float64),
        measured.cost_usd.astype(np.float64),
        {role: router.predict(measured.embeddings) for role, router in routers.items()},
        _stderr(routers["current"], measured),
        np.array(model_means(log), np.float64),
    )


def _stderr(router: GuardedEstimator, rows: Evaluations) -> Float64:
    stderr = router.quality_stderr(rows.embeddings)
    assert stderr is not None
    return np.asarray(stderr, np.float64)
