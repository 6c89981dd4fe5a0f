"""Whether a router is better for what checks and signals say of answers that nobody graded.

One model answered each query. Some answers were graded by people, which is the truth here. All were
checked: a check fires on a share of the bad answers, another one for each task and model, and on
few of the good ones. What it says of the others is learned from beside the people's grades, at
several weights: as it is; corrected by what people say of answers that have both; and, to tell what
an answer is worth of which nothing is said but its cost, the same of all.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.routing_frontier.protocol import read, rows_of
from gateway.grading.form import NEUTRAL
from gateway.routing.encoders import load_encoder
from router_models.estimators.kmeans import CellStatistics, KMeansEstimator
from router_models.evaluation.judges import measure_judge
from router_models.evaluation.routing_value import RoutingValue
from router_models.statistics import join, select
from router_models.training.kmeans import fit_kmeans, overlay
from router_models.training.settings import KMeansSettings
from router_models.training.train import tune
from router_models.types import Evaluations, Float32

FIRED: Final = 0.1
FALSE_ALARMS: Final = 0.02
RECALLS: Final = (0.15, 0.4)
QUERIES: Final = 2_000
GRADED: Final = (50, 200, 600)
WEIGHTS: Final = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Log:
    """What a gateway knows: NaN in `quality` where a model did not answer.

    Attributes:
        rows: With the true quality.
        said: What checks say of the same answers.
        is_graded: Which queries' answers people graded.
    """

    rows: Evaluations
    said: Float32
    is_graded: NDArray[np.bool_]


def log_of(truth: Evaluations, recall: float, graded: int, rng: np.random.Generator) -> Log:
    """Draw who answers, whom checks find, and whom people grade."""
    drawn = rng.permutation(len(truth.quality))[:QUERIES]
    rows = select(truth, np.sort(drawn))
    n_queries, n_models = rows.quality.shape
    tasks, task = np.unique(rows.tasks, return_inverse=True)
    chance = np.where(np.isfinite(rows.quality), rng.random(rows.quality.shape), -1.0)
    answers = chance.argmax(axis=1)[:, None] == np.arange(n_models)
    found = recall * rng.uniform(0.0, 2.0, (len(tasks), n_models))[task]
    fires = rng.random(rows.quality.shape) < np.where(rows.quality < 0.5, found, FALSE_ALARMS)
    nothing = np.float32(np.nan)
    rows = replace(
        rows,
        quality=np.where(answers, rows.quality, nothing),
        cost_usd=np.where(answers, rows.cost_usd, nothing),
    )
    said = np.where(fires, FIRED, NEUTRAL).astype(np.float32)
    return Log(rows, said, np.isin(np.arange(n_queries), rng.permutation(n_queries)[:graded]))


def routers(log: Log, seed: int) -> Iterator[tuple[str, KMeansEstimator]]:
    """Learn from people's grades alone, with tuned settings; then with these from all answers."""
    graded = np.flatnonzero(log.is_graded)
    alone, is_held = select(log.rows, graded), np.arange(len(graded)) % 5 == 0
    learned, held = (select(log.rows, graded[part]) for part in (~is_held, is_held))
    settings = tune(learned, held, "kmeans", seed)[0].settings
    assert isinstance(settings, KMeansSettings)
    yield "alone", fit_kmeans(alone, settings, seed)
    answered = np.isfinite(log.rows.quality)
    both = log.is_graded[:, None] & answered
    judge = measure_judge(log.said[both].tolist(), log.rows.quality[both].tolist())
    forms = {
        "nothing said": np.full_like(log.said, log.rows.quality[both].mean()),
        "as it is": log.said,
        "corrected": np.vectorize(judge.correction, otypes=[np.float32])(log.said),
    }
    layers = [fit_kmeans(log.rows, layer, seed) for layer in settings.layers]
    for name, said in forms.items():
        quality = np.where(both, log.rows.quality, said)
        rows = replace(log.rows, quality=np.where(answered, quality, np.float32(np.nan)))
        for weight in WEIGHTS:
            counted = np.where(both, np.float32(1.0), np.float32(weight))
            yield f"{name}, {weight:g}", _counted(layers, replace(rows, weight=counted))


def _counted(layers: Sequence[KMeansEstimator], rows: Evaluations) -> KMeansEstimator:
    def sums(layer: KMeansEstimator) -> CellStatistics:
        cluster, n_clusters = layer.assign(rows.embeddings), len(layer.centroids)
        return CellStatistics.gather(cluster, rows.quality, rows.cost_usd, n_clusters, rows.counts)

    return overlay([layer.with_statistics(rows.models, sums(layer)) for layer in layers])


def values(log: Log, test: Evaluations, seed: int) -> dict[str, float]:
    """Return what routing by each is worth on rows that every model answered."""
    found = {}
    for name, router in routers(log, seed):
        prediction = router.predict(test.embeddings)
        report = RoutingValue(test, prediction)
        found[name] = float(report.of_routing(prediction).mean())
    return found


def main() -> None:
    """Measure one set, and print a row of a table for each number of grades and recall."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", default="llmrouter_ulab")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    rows = rows_of(read(given.data, given.set).embedded(load_encoder("static")))
    truth, test = replace(join(rows.train, rows.val), tokens=None), replace(rows.test, tokens=None)
    for graded in GRADED:
        for recall in RECALLS:
            found = [
                values(log_of(truth, recall, graded, np.random.default_rng(seed)), test, seed)
                for seed in range(given.seeds)
            ]
            alone = np.array([one["alone"] for one in found])
            gains = {
                name: np.array([one[name] for one in found]) - alone for name in list(found[0])[1:]
            }
            cells = (f"{gain.mean():+.4f} ({gain.min():+.4f})" for gain in gains.values())
            if (graded, recall) == (GRADED[0], RECALLS[0]):
                print("graded", "recall", "alone", *gains, sep=" | ")
            print(graded, recall, f"{alone.mean():.4f}", *cells, sep=" | ", flush=True)


if __name__ == "__main__":
    main()
