"""Routers of the product and simple ones, each trained once on the rows of a cell."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.routing_frontier.protocol import Rows
from router_models.evaluation.frontier import Judge, route
from router_models.evaluation.report import Contender
from router_models.pricing import in_unit, unit_of
from router_models.training.baselines import (
    RIDGE_ALPHAS,
    clusters,
    nearest_neighbours,
    tfidf_ridge,
)
from router_models.training.settings import (
    AUTO,
    AverageSettings,
    Settings,
    candidates,
)
from router_models.training.train import fit_each, predict_usd, train, tune
from router_models.types import Float32, Prediction

DEFAULT: Final = "Waypost"
"""What `waypost train` makes when nothing else is asked for."""


def _product(kind: str) -> Callable[[Rows, int], Contender]:
    def trained(rows: Rows, seed: int) -> Contender:
        router = train(rows.train, rows.val, kind, seed)
        return Contender.of(predict_usd(router, rows.test, unit_of(rows.train)))

    return trained


CONTENDERS: Final[dict[str, Callable[[Rows, int], Contender]]] = {
    DEFAULT: _product(AUTO),
    "TF-IDF + ridge": lambda r, seed: tfidf_ridge(r.train, r.val, r.test, RIDGE_ALPHAS, seed),
    "kNN": lambda r, seed: nearest_neighbours(r.train, r.val, r.test, seed),
    "clusters (Avengers-Pro)": lambda r, seed: clusters(r.train, r.val, r.test, seed),
}


def save(path: Path, contender: Contender) -> None:
    """Write what a contender expects, so that a run that was stopped goes on from there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.npz")
    np.savez_compressed(
        unfinished,
        quality=contender.prediction.quality,
        cost_usd=contender.prediction.cost_usd,
        score_quality=contender.scores.quality,
        score_cost=contender.scores.cost_usd,
        lambdas=contender.lambdas,
    )
    unfinished.rename(path)


def load(path: Path) -> Contender:
    """Read what `save` wrote."""
    with np.load(path) as stored:
        found: dict[str, Float32] = dict(stored)
    return Contender(
        Prediction(found["quality"], found["cost_usd"]),
        Prediction(found["score_quality"], found["score_cost"]),
        found["lambdas"].astype(np.float64),
    )


def grid_naiq(rows: Rows, seed: int) -> dict[str, float]:
    """Measure every setting of K-means on the rows to be measured: what tuning gave up.

    Returns:
        nAIQ of the setting that tuning chose, without a guard as all the others, and of the best.
    """
    settings = candidates("kmeans")
    chosen = tune(rows.train, rows.val, "kmeans", seed)[0].settings
    unit = unit_of(rows.train)
    learn, held = in_unit(rows.train, unit), in_unit(rows.val, unit)
    judge = Judge.of(rows.test)
    found = [
        judge.figures(route(predict_usd(estimator, rows.test, unit), rows.test)).naiq
        for estimator in fit_each(learn, held, settings, seed)
    ]
    of_setting: dict[Settings | AverageSettings, float] = dict(zip(settings, found, strict=True))
    return {"chosen": of_setting[chosen], "best": max(found)}
