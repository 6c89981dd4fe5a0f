"""Simple routers for a learned one to be measured against, each tuned over as many settings."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from router_models.errors import InvalidEvaluations
from router_models.estimators.kmeans import CellStatistics
from router_models.evaluation.frontier import Float64
from router_models.evaluation.report import Contender
from router_models.statistics import cost_floor, model_means
from router_models.training.kmeans import assign, cluster, normalize_rows
from router_models.training.train import folds, value_candidates
from router_models.training.train import train as train_router
from router_models.types import Evaluations, Float32, Prediction

RIDGE_ALPHAS: Final = tuple(np.geomspace(1.0, 1000.0, 16).tolist())
"""Each needs fits of its own, and neighbours hardly differ."""
CLUSTERS: Final = (16, 32, 64, 128)
NEAREST: Final = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
"""As many settings as the other kinds try; the paper has 60 clusters and the nearest 4."""

CLUSTER_LAMBDAS: Final = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 98), [1e9]])
"""Scaled cost against scaled quality. As alphas, evenly spaced, they would leave a gap at low cost:
on zeroeval no point between 41 % and 73 % of quality."""


def tfidf_ridge(
    train: Evaluations,
    validation: Evaluations,
    asked: Evaluations,
    alphas: Sequence[float],
    seed: int,
) -> Contender:
    """TF-IDF of the words, and a ridge regression each for quality and cost of every model.

    Args:
        train: Its text makes the vocabulary.
        validation: Helps to choose among `alphas`.
        asked: The queries to predict for.
        alphas: Penalties to try.
        seed: Of the rows that tuning looks at, where there are many.

    Raises:
        InvalidEvaluations: A table has embeddings and no text.
    """
    if not (train.texts and validation.texts and asked.texts):
        raise InvalidEvaluations("TF-IDF needs the text of the queries, and the table has none")

    def predict_all(learn: Evaluations, held: Evaluations) -> Iterator[Prediction]:
        vectorizer = TfidfVectorizer().fit(learn.texts)
        features = vectorizer.transform(learn.texts)
        wanted = vectorizer.transform(held.texts)
        for alpha in alphas:
            yield _ridge(learn, features, alpha)(wanted)

    alpha = alphas[_best(predict_all, train, validation, seed)]
    vectorizer = TfidfVectorizer().fit(train.texts)
    fitted = _ridge(train, vectorizer.transform(train.texts), alpha)
    return Contender.of(fitted(vectorizer.transform(asked.texts)))


def _best(
    predict_all: Callable[[Evaluations, Evaluations], Iterator[Prediction]],
    train: Evaluations,
    validation: Evaluations,
    seed: int,
) -> int:
    """Return the place of the candidate that routers of this package would choose."""
    values = value_candidates(predict_all, folds(train, validation, seed))
    return max(range(len(values)), key=lambda place: values[place][0])


def _ridge(train: Evaluations, features: Any, alpha: float) -> Callable[[Any], Prediction]:
    """Fit on the answered rows of each model; those answered in the same rows, together."""
    counts = train.counts
    means, floor = model_means(train), cost_floor(train)
    patterns, of_model = np.unique(counts, axis=1, return_inverse=True)
    fits = []
    for place, counted in enumerate(patterns.T):
        pattern = counted > 0
        if not pattern.any():
            continue
        weight = None if train.weight is None else counted[pattern]
        columns = np.flatnonzero(of_model == place)
        targets = np.concatenate(
            [train.quality[pattern][:, columns], train.cost_usd[pattern][:, columns]], axis=1
        )
        fits.append((columns, Ridge(alpha).fit(features[pattern], targets, weight)))

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
    learned, held_out = (replace(rows, tokens=None) for rows in (train, validation))
    found = train_router(learned, held_out, "knn", seed).predict(asked.embeddings)
    return Contender.of(found)


def clusters(
    train: Evaluations, validation: Evaluations, asked: Evaluations, seed: int
) -> Contender:
    """Each model's record in the clusters nearest to the query, as in Avengers-Pro.

    arXiv 2508.12631: in each cluster quality and cost are scaled to 0..1 over the models, and the
    model of the highest ``alpha * quality + (1 - alpha) * (1 - cost)`` is chosen, summed over the
    nearest clusters. That is the highest ``quality - (1 - alpha) / alpha * cost``.
    """

    def predict_all(learn: Evaluations, held: Evaluations) -> Iterator[Prediction]:
        for n_clusters in CLUSTERS:
            table = _cluster_tables(learn, n_clusters, seed)
            for nearest in NEAREST:
                yield table.mean(held.embeddings, nearest)

    tried = list(itertools.product(CLUSTERS, NEAREST))
    n_clusters, nearest = tried[_best(predict_all, train, validation, seed)]
    table = _cluster_tables(train, n_clusters, seed)
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
        assign(unit, centroids)[0], train.quality, train.cost_usd, len(centroids), train.counts
    )
    quality, cost = model_means(train)
    seen = cells.count > 0
    rows = np.where(seen, cells.count, 1.0)
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
        yield "TF-IDF + ridge", tfidf_ridge(train, validation, asked, RIDGE_ALPHAS, seed)
    yield "kNN", nearest_neighbours(train, validation, asked, seed)
    yield "clusters (Avengers-Pro)", clusters(train, validation, asked, seed)
