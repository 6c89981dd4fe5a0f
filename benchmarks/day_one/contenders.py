"""The routers that are compared: each predicts the pool's quality and cost after n prompts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.day_one.prior import Newcomer, Prior, fit_prior
from benchmarks.day_one.protocol import COUNTS, Draw, charged
from benchmarks.day_one.tables import Float64
from router_models.day_one.belief import Belief, Items
from router_models.day_one.choice import (
    ADAPTIVE_PROMPTS,
    BATCH,
    RANDOM_SHARE,
    choose,
    kmeans_share,
    target_moments,
    transfers,
)
from router_models.estimators.kmeans import CellStatistics, KMeansEstimator
from router_models.training.kmeans import assign, fit_kmeans
from router_models.training.settings import KMeansSettings
from router_models.types import Evaluations, Float32

TARGETS: Final = 1500

Predicted = tuple[Float64, Float64]
"""Quality and USD of each test query and model of the pool."""


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """What does not depend on the draw of models: clusters of the train queries."""

    clusters: KMeansEstimator
    assigned: NDArray[np.intp]

    @classmethod
    def of(cls, draw: Draw, seed: int) -> "Background":
        """Cluster as the product does, with its default settings."""
        embeddings = draw.table.embeddings[draw.train]
        nothing = np.zeros((len(embeddings), 1), np.float32)
        rows = Evaluations(embeddings, nothing, nothing, ("none",))
        clusters = fit_kmeans(rows, KMeansSettings(), seed)
        unit = clusters.scaler.apply_unit(embeddings)
        return cls(clusters, assign(unit, clusters.centroids)[0])


Asked = Mapping[int, NDArray[np.intp]]
"""Places in the bank of the prompts that each new model answered, by column of the table."""


def at_random(draw: Draw, count: int) -> Asked:
    """Ask every new model the first `count` prompts of the bank."""
    return {int(column): np.arange(count) for column in draw.new}


def answered(draw: Draw, asked: Asked) -> NDArray[np.bool_]:
    """Which train answers are known; ``(n_train, n_pool)``."""
    known = np.zeros((len(draw.train), len(draw.pool)), bool)
    known[:, : draw.n_known] = True
    for column in range(draw.n_known, len(draw.pool)):
        known[np.isin(draw.train, draw.bank[asked[int(draw.pool[column])]]), column] = True
    return known


def best_single(draw: Draw, asked: Asked) -> Predicted:
    """One model for all queries, by the mean of its answers."""
    known, at = answered(draw, asked), np.ix_(draw.train, draw.pool)
    rows = known.sum(axis=0)
    means = [
        np.where(known, table[at], 0.0).sum(axis=0) / np.maximum(rows, 1)
        for table in (draw.table.score, draw.table.cost_usd)
    ]
    shape = len(draw.test), len(draw.pool)
    return np.broadcast_to(means[0], shape), np.broadcast_to(means[1], shape)


def kmeans(draw: Draw, asked: Asked, background: Background) -> Predicted:
    """The product's K-means router; its clusters are of all train queries, whoever answered."""
    known, at = answered(draw, asked), np.ix_(draw.train, draw.pool)
    quality, cost = (
        np.where(known, table[at], np.nan).astype(np.float32)
        for table in (draw.table.score, draw.table.cost_usd)
    )
    clusters = background.clusters
    cells = CellStatistics.gather(background.assigned, quality, cost, len(clusters.centroids))
    names = tuple(map(str, draw.pool))
    found = clusters.with_statistics(names, cells).predict(draw.table.embeddings[draw.test])
    return found.quality.astype(np.float64), found.cost_usd.astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class DayOne:
    """The factor router: its prior, and the prompts laid out as items."""

    draw: Draw
    prior: Prior
    items: Items
    targets: tuple[Float64, Float64]

    @classmethod
    def of(cls, draw: Draw, centroids: Float32) -> "DayOne":
        """Learn from the known models."""
        prior = fit_prior(draw.known_answers(), draw.seed, centroids)
        table, bank = draw.table, draw.bank
        items = prior.prompts(table.embeddings[bank], table.score[np.ix_(bank, draw.known)])
        unlabelled = np.random.default_rng(draw.seed).permutation(draw.train)[:TARGETS]
        return cls(draw, prior, items, prior.queries(table.embeddings[unlabelled]))

    def predict(self, asked: Asked) -> Predicted:
        """Predict after the new models answered their prompts: places in the bank."""
        draw, table = self.draw, self.draw.table
        new = [self._newcomer(column, asked[int(column)]) for column in draw.new]
        known = [
            (str(column), int(np.flatnonzero(draw.known == column)[0]), tuple(table.price[column]))
            for column in draw.pool[: draw.n_known]
        ]
        estimator = self.prior.estimator(known, new)
        embeddings = table.embeddings[draw.test]
        quality = estimator.quality(embeddings)[0].astype(np.float64)
        return quality, charged(draw, estimator.completion_tokens(embeddings).astype(np.float64))

    def blended(self, asked: Asked, background: Background) -> Predicted:
        """Predict as `predict` does, with K-means' share for each model."""
        draw = self.draw
        residual = self.prior.spread.residual
        share = np.array(
            [kmeans_share(residual, 0, is_known=True)] * draw.n_known
            + [kmeans_share(residual, len(asked[int(c)]), is_known=False) for c in draw.new]
        )
        if not share.any():
            return self.predict(asked)
        ours, theirs = self.predict(asked), kmeans(draw, asked, background)
        quality, cost = (a + (b - a) * share for a, b in zip(ours, theirs, strict=True))
        return quality, cost

    def belief(self, column: int, places: NDArray[np.intp]) -> Belief:
        """What is believed of a model after its answers."""
        score = self.draw.table.score[self.draw.bank[places], column]
        model, price = self.draw.table.models[column], float(self.draw.table.price[column].max())
        return self.prior.believe(model, price).update(self.items.take(places), score)

    def _newcomer(self, column: int, places: NDArray[np.intp]) -> Newcomer:
        table, rows = self.draw.table, self.draw.bank[places]
        length = self.prior.length(table.embeddings[rows], table.completion_tokens[rows, column])
        price = (float(table.price[column, 0]), float(table.price[column, 1]))
        return Newcomer(str(column), self.belief(column, places), length, price)

    def chosen(self, column: int, most: int, random_share: float) -> NDArray[np.intp]:
        """Choose prompts for a model, batch by batch."""
        rng = np.random.default_rng([self.draw.seed, column])
        places: list[int] = []
        free = np.ones(len(self.items), bool)
        while len(places) < most:
            belief = self.belief(column, np.array(places, np.intp))
            moments = target_moments(belief, *self.targets)
            places += choose(
                belief, self.items, moments, BATCH, random_share=random_share, free=free, rng=rng
            )
            free[places] = False
        return np.array(places, np.intp)


def predictions(
    draw: Draw, background: Background, day_one: DayOne
) -> Iterator[tuple[str, int, Predicted]]:
    """Every contender's predictions after every number of prompts it is measured at."""
    chosen = {int(c): day_one.chosen(int(c), ADAPTIVE_PROMPTS, RANDOM_SHARE) for c in draw.new}
    rest = np.arange(COUNTS[-1])
    further = {c: np.concatenate([first, np.setdiff1d(rest, first)]) for c, first in chosen.items()}
    is_open = transfers(day_one.prior.spread.residual)
    for count in COUNTS:
        random = at_random(draw, count)
        telling = {column: places[:count] for column, places in further.items()}
        if count:
            yield "best single", count, best_single(draw, random)
        if count or draw.n_known:
            yield "K-means", count, kmeans(draw, random, background)
        yield "factors, random", count, day_one.predict(random)
        if count <= ADAPTIVE_PROMPTS:
            yield "factors, chosen", count, day_one.predict(telling)
        yield "day one", count, day_one.blended(telling if is_open else random, background)
