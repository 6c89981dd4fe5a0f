"""Compare the encoders by what simple routers make of them.

Usage: python -m benchmarks.encoders.quality --data FOLDER llmrouter_ulab zeroeval

Each data set is a long table ``NAME.parquet`` (query_id, model, score) and the texts in
``NAME.queries.parquet`` (query_id, text, split). Trains on ``train`` and measures on ``val``, and
again on three random 75/25 splits of the two; ``test`` is never read.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import NearestNeighbors

from gateway.routing.encoders import load_encoder
from router_models.encoders.features import FEATURE_NAMES
from router_models.types import Float32

N_SPLITS = 4
RIDGE_ALPHAS = (0.3, 1.0, 3.0, 10.0)
N_CLUSTERS = 48
SHRINKAGE = 10
N_NEIGHBOURS = 40
CHEAP = len(FEATURE_NAMES)
ENCODERS: Final = ("static", "minilm")

Predictor = Callable[[Float32, Float32, Float32], Float32]


def ridge(train: Float32, quality: Float32, queries: Float32) -> Float32:
    predicted: Float32 = RidgeCV(RIDGE_ALPHAS).fit(train, quality).predict(queries)
    return predicted


def kmeans(train: Float32, quality: Float32, queries: Float32) -> Float32:
    clusters = KMeans(N_CLUSTERS, n_init=1, random_state=0).fit(train)
    members = np.eye(N_CLUSTERS)[clusters.labels_]
    sums = members.T @ quality + SHRINKAGE * quality.mean(axis=0)
    means: Float32 = sums / (members.sum(axis=0)[:, None] + SHRINKAGE)
    predicted: Float32 = means[clusters.predict(queries)]
    return predicted


def nearest(train: Float32, quality: Float32, queries: Float32) -> Float32:
    neighbours = NearestNeighbors(n_neighbors=N_NEIGHBOURS).fit(train)
    near = neighbours.kneighbors(queries, return_distance=False)
    predicted: Float32 = quality[near].mean(axis=1)
    return predicted


PREDICTORS: dict[str, Predictor] = {"ridge": ridge, "K-means": kmeans, "kNN": nearest}


def read(folder: Path, name: str) -> tuple[list[str], NDArray[np.bool_], Float32]:
    """Return texts, which of them are ``val``, and quality; only queries that all models answered.

    Models that lack more than 2 % of the queries are left out.
    """
    queries = pq.read_table(folder / f"{name}.queries.parquet").to_pydict()
    table = pq.read_table(folder / f"{name}.parquet", columns=["query_id", "model", "score"])
    rows = {query: row for row, query in enumerate(queries["query_id"])}
    models = {model: column for column, model in enumerate(sorted(set(table["model"].to_pylist())))}
    quality = np.full((len(rows), len(models)), np.nan)
    for query, model, score in zip(
        *(table[c].to_pylist() for c in table.column_names), strict=True
    ):
        if query in rows:
            quality[rows[query], models[model]] = score
    quality = quality[:, np.isnan(quality).mean(axis=0) < 0.02]
    split = np.array(queries["split"])
    kept = ~np.isnan(quality).any(axis=1) & (split != "test")
    texts = [queries["text"][row] for row in np.flatnonzero(kept)]
    return texts, split[kept] == "val", quality[kept]


def score(
    vectors: Float32, is_val: NDArray[np.bool_], quality: Float32, predict: Predictor
) -> tuple[float, float]:
    """Return two percentages, mean of `N_SPLITS`.

    The squared error that the prediction removes from that of each model's mean; and the accuracy
    won by always taking the model predicted best, 0 = best single model, 100 = oracle.
    """
    figures = []
    for seed in range(N_SPLITS):
        random = np.random.default_rng(seed).random(len(quality)) < 0.25
        held_out = is_val if seed == 0 else random
        train, truth = quality[~held_out], quality[held_out]
        predicted = predict(vectors[~held_out], train, vectors[held_out])
        mean = train.mean(axis=0)
        error = ((truth - predicted) ** 2).mean() / ((truth - mean) ** 2).mean()
        chosen = truth[np.arange(len(truth)), predicted.argmax(axis=1)].mean()
        single, oracle = truth[:, mean.argmax()].mean(), truth.max(axis=1).mean()
        figures.append((100 * (1 - error), 100 * (chosen - single) / (oracle - single)))
    reduction, gain = np.mean(figures, axis=0)
    return float(reduction), float(gain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("names", nargs="+")
    arguments = parser.parse_args()
    encoders = {name: load_encoder(name) for name in ENCODERS}
    print("| data | features | " + " | ".join(PREDICTORS) + " |")
    print("|---|---|" + "---|" * len(PREDICTORS))
    for name in arguments.names:
        texts, is_val, quality = read(arguments.data, name)
        vectors = {key: encoder.encode(texts) for key, encoder in encoders.items()}
        compared = {"cheap": vectors["static"][:, -CHEAP:]}
        for key in ENCODERS:
            compared[key] = vectors[key][:, :-CHEAP]
            compared[f"{key} + cheap"] = vectors[key]
        for label, matrix in compared.items():
            figures = [score(matrix, is_val, quality, predict) for predict in PREDICTORS.values()]
            shown = " | ".join(f"{reduction:.1f} ({gain:.1f})" for reduction, gain in figures)
            print(f"| {name} | {label} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
