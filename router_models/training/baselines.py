"""Simple routers for a learned one to be measured against, each tuned over as many settings."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from router_models.errors import InvalidEvaluations
from router_models.estimators.kmeans import CellStatistics
from router_models.evaluation.frontier import Float64, oracle_gain
from router_models.evaluation.predictions import squared_error
from router_models.evaluation.report import Contender
from router_models.statistics import cost_floor, model_means, select
from router_models.training.kmeans import assign, cluster, normalize_rows
from router_models.training.settings import TRIALS
from router_models.training.train import TUNING_LAMBDAS
from router_models.training.train import train as train_router
from router_models.types import Evaluations, Float32, Prediction

RIDGE_ALPHAS: Final = tuple(np.geomspace(1.0, 1000.0, TRIALS).tolist())
CLUSTERS: Final = (16, 32, 64, 128)
NEAREST: Final = (1, 2, 4, 8)
"""As many settings as the other kinds try; the paper has 60 clusters and the nearest 4."""

CLUSTER_LAMBDAS: Final = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 98), [1e9]])
"""Scaled cost against scaled quality. As alphas, evenly spaced, they would leave a gap at low cost:
on zeroeval no point between 41 % and 73 % of quality."""


def tfidf_ridge(
    train: Evaluations, validation: Evaluations, asked: Evaluations, alphas: Sequence[float]
) -> Contender:
    """TF-IDF of the words, and a ridge regression each for quality and cost of every model.

    Args:
        train: Its text makes the vocabulary.
        validation: Chooses among `alphas`.
        asked: The queries to predict for.
        alphas: Penalties to try.

    Raises:
        InvalidEvaluations: A table has embeddings and no text.
    """
    if not (train.texts and validation.texts and asked.texts):
        raise InvalidEvaluations("TF-IDF needs the text of the queries, and the table has none")
    vectorizer = TfidfVectorizer().fit(train.texts)
    features = vectorizer.transform(train.texts)
    known, wanted = (vectorizer.transform(rows.texts) for rows in (validation, asked))
    fitted = (_ridge(train, features, alpha) for alpha in alphas)
    best = min(fitted, key=lambda predict: _loss(predict(known), validation))
    return Contender.of(best(wanted))


def _loss(prediction: Prediction, validation: Evaluations) -> float:
    """What the settings of a baseline are chosen by.

    The gain from routing, if every model answered most queries: on zeroeval it gives TF-IDF + ridge
    .749 of common AUC, and squared error .735. In a log there is no gain to see.
    """
    full = np.flatnonzero(np.isfinite(validation.quality).all(axis=1))
    if 2 * len(full) < len(validation.quality):
        return squared_error(prediction, validation)
    known = Prediction(prediction.quality[full], prediction.cost_usd[full])
    return -oracle_gain(known, select(validation, full), TUNING_LAMBDAS)


def _ridge(train: Evaluations, features: Any, alpha: float) -> Callable[[Any], Prediction]:
    """Fit on the answered rows of each model; those answered in the same rows, together."""
    answered = np.isfinite(train.quality)
    means, floor = model_means(train), cost_floor(train)
    patterns, of_model = np.unique(answered, axis=1, return_inverse=True)
    fits = []
    for place, pattern in enumerate(patterns.T):
        if not pattern.any():
            continue
        columns = np.flatnonzero(of_model == place)
        targets = np.concatenate(
            [train.quality[pattern][:, columns], train.cost_usd[pattern][:, columns]], axis=1
        )
        fits.append((columns, Ridge(alpha).fit(features[pattern], targets)))

    def predict(wanted: Any) -> Prediction:
        # A model without an answer is expected to be as the others are.
        quality, cost = (np.tile(mean, (wanted.shape[0], 1)) for mean in means)
        for columns, fit in fits:
            found = fit.predict(wanted).reshape(wanted.shape[0], -1)
            quality[:, columns], cost[:, columns] = np.split(found, 2, axis=1)
        return Prediction(np.clip(quality, 0.0, 1.0), np.maximum(cost, floor))

    return predict


def nearest_neighbours(
    train: Evaluations, validation: Evaluations, asked: Evaluations, seed: int
) -> Contender:
    """The mean over the most similar train queries."""
    return Contender.of(train_router(train, validation, "knn", seed).predict(asked.embeddings))


def clusters(
    train: Evaluations, validation: Evaluations, asked: Evaluations, seed: int
) -> Contender:
    """Each model's record in the clusters nearest to the query, as in Avengers-Pro.

    arXiv 2508.12631: in each cluster quality and cost are scaled to 0..1 over the models, and the
    model of the highest ``alpha * quality + (1 - alpha) * (1 - cost)`` is chosen, summed over the
    nearest clusters. That is the highest ``quality - (1 - alpha) / alpha * cost``.
    """
    tables = [_cluster_tables(train, n_clusters, seed) for n_clusters in CLUSTERS]
    trials = itertools.product(tables, NEAREST)
    table, nearest = min(
        trials,
        key=lambda trial: _loss(trial[0].mean(validation.embeddings, trial[1]), validation),
    )
    scaled = table.scaled().mean(asked.embeddings, nearest)
    return Contender(table.mean(asked.embeddings, nearest), scaled, CLUSTER_LAMBDAS)


@dataclass(frozen=True, slots=True, eq=False)
class _ClusterTables:
    """Mean quality and cost by cluster and model; shape ``(n_clusters, n_models)``."""

    centroids: Float32
    quality: Float64
    cost_usd: Float64

    def mean(self, embeddings: Float32, nearest: int) -> Prediction:
        """Average over the clusters nearest to each query."""
        cosine = normalize_rows(embeddings) @ self.centroids.T
        near = np.argsort(-cosine, axis=1, kind="stable")[:, :nearest]
        return Prediction(
            self.quality[near].mean(axis=1).astype(np.float32),
            self.cost_usd[near].mean(axis=1).astype(np.float32),
        )

    def scaled(self) -> "_ClusterTables":
        """Scale both to 0..1 over the models of each cluster."""
        return _ClusterTables(self.centroids, _scaled(self.quality), _scaled(self.cost_usd))


def _cluster_tables(train: Evaluations, n_clusters: int, seed: int) -> _ClusterTables:
    unit = normalize_rows(train.embeddings)
    centroids = cluster(unit, n_clusters, seed)
    cells = CellStatistics.gather(
        assign(unit, centroids)[0], train.quality, train.cost_usd, len(centroids)
    )
    quality, cost = model_means(train)
    seen, rows = cells.count > 0, np.maximum(cells.count, 1.0)
    return _ClusterTables(
        centroids,
        np.where(seen, cells.quality_sum / rows, quality),
        np.where(seen, cells.cost_sum / rows, cost),
    )


def _scaled(table: Float64) -> NDArray[np.float64]:
    low, high = table.min(axis=1, keepdims=True), table.max(axis=1, keepdims=True)
    scaled: Float64 = (table - low) / np.maximum(high - low, 1e-12)
    return scaled


def all_baselines(
    train: Evaluations, validation: Evaluations, asked: Evaluations, seed: int
) -> Iterator[tuple[str, Contender]]:
    """Every simple router, by the name that reports call it; TF-IDF where there is text."""
    if train.texts:
        yield "TF-IDF + ridge", tfidf_ridge(train, validation, asked, RIDGE_ALPHAS)
    yield "kNN", nearest_neighbours(train, validation, asked, seed)
    yield "clusters (Avengers-Pro)", clusters(train, validation, asked, seed)
