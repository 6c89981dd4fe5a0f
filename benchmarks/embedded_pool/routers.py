"""Trains the routers that ship with the embedded pool, one per encoder, and measures the recipe.

The shipped router learns from every prompt. What it is worth is measured on prompts it did not see:
five folds, settings chosen by folds inside each, three partitions averaged; one greedy answer per
prompt and arm.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.commands.train import carve
from gateway.problems.datasets import read_dataset
from gateway.routing.encoders import load_encoder
from gateway.settings.config import DEFAULT_PROFILES
from router_models.artifacts.artifact import dump
from router_models.estimators.guard import GuardedEstimator
from router_models.evaluation.frontier import (
    LAMBDAS,
    Judge,
    Outcomes,
    bootstrap_weights,
    complete,
    oracle_gain,
    route,
)
from router_models.statistics import select
from router_models.training.guard import fit_guard
from router_models.training.settings import Settings, candidates
from router_models.training.train import fit
from router_models.types import Evaluations, Prediction

# No network: a few hundred rows are too few for one.
KINDS = ("kmeans", "knn", "ridge")
SHIPPED = "kmeans"
FOLDS = 5
INNER_FOLDS = 4
PARTITIONS = (0, 1, 2)
DRAWS = 1000
TUNING_LAMBDAS = np.geomspace(1e-1, 1e5, 13)
# A query unlike all prompts is open conversation rather than copying or arithmetic.
OPEN_TASKS = ("explain", "write")
CREATED_AT = datetime(2026, 11, 22, tzinfo=UTC)
Draws = NDArray[np.float64]


def build(evaluations_file: Path, folder: Path, report_file: Path) -> None:
    """Measure every kind, train and write the shipped one per encoder, write the report."""
    lines = ["Written by `python -m benchmarks.embedded_pool.run routers`.", ""]
    for encoder in (load_encoder("static"), load_encoder("minilm")):
        rows = complete(read_dataset(evaluations_file).embedded(encoder).evaluations())
        measured = {kind: measure(rows, kind) for kind in KINDS}
        lines += table(encoder.id, rows, measured)
        data = dump(
            train_shipped(rows),
            encoder,
            created_at=CREATED_AT,
            training={
                "kind": SHIPPED,
                "folds": FOLDS,
                "held_out_naiq": Judge.of(rows).figures(measured[SHIPPED]).naiq,
            },
            provenance={"queries": len(rows.quality), "evaluations": rows.quality.size},
        )
        (folder / f"router-{encoder.id}.safetensors").write_bytes(data)
        lines += [f"Shipped: {SHIPPED}, {len(data) / 1024:.0f} KiB.", ""]
    report_file.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


def train_shipped(rows: Evaluations) -> GuardedEstimator:
    """Train on all rows; unfamiliar queries are expected to go as the open ones did."""
    estimator = fit(rows, rows, choose_settings(rows, SHIPPED, seed=0), seed=0)
    guard = fit_guard(*carve(rows), seed=0)
    is_open = np.array([task in OPEN_TASKS for task in rows.tasks], bool)
    guard.quality_means = rows.quality[is_open].mean(axis=0)
    guard.cost_means_usd = rows.cost_usd[is_open].mean(axis=0)
    # These means are of the very queries that are unknown; predictions from others add nothing.
    guard.kept_quality = guard.kept_cost = 0.0
    return GuardedEstimator(estimator, guard)


def choose_settings(rows: Evaluations, kind: str, seed: int) -> Settings:
    """Choose by held-out folds: one small validation split would choose by chance."""
    gains = []
    for settings in candidates(kind):
        prediction = predict_folds(rows, partial(_given, settings), INNER_FOLDS, seed)
        gains.append((oracle_gain(prediction, rows, TUNING_LAMBDAS), settings))
    return max(gains, key=lambda pair: pair[0])[1]


def _given(settings: Settings, _: Evaluations) -> Settings:
    return settings


def measure(rows: Evaluations, kind: str) -> Outcomes:
    """Return the frontier on held-out prompts, the mean of three partitions."""
    quality, cost = [], []
    for seed in PARTITIONS:
        choose = partial(choose_settings, kind=kind, seed=seed)
        prediction = predict_folds(rows, choose, FOLDS, seed)
        outcomes = route(prediction, rows)
        quality.append(outcomes.quality)
        cost.append(outcomes.cost_usd)
    return Outcomes(np.mean(quality, axis=0), np.mean(cost, axis=0))


def predict_folds(
    rows: Evaluations, settings_for: Callable[[Evaluations], Settings], folds: int, seed: int
) -> Prediction:
    """Predict every row by an estimator that did not see its fold."""
    quality, cost = np.empty_like(rows.quality), np.empty_like(rows.cost_usd)
    order = np.random.default_rng(seed).permutation(len(rows.quality))
    for held_out in np.array_split(order, folds):
        known = select(rows, np.setdiff1d(order, held_out))
        estimator = fit(known, known, settings_for(known), seed)
        prediction = estimator.predict(rows.embeddings[held_out])
        quality[held_out], cost[held_out] = prediction.quality, prediction.cost_usd
    return Prediction(quality, cost)


def table(title: str, rows: Evaluations, measured: dict[str, Outcomes]) -> list[str]:
    """Compare the kinds with the best single arm, with 95 % bootstrap intervals over prompts."""
    judge = Judge.of(rows)
    best = judge.best_single()
    weights = bootstrap_weights(len(rows.quality), DRAWS, np.random.default_rng(0))
    cost_usd, quality = (judge.single_models.cost_usd[best], judge.single_models.quality[best])
    lines = [
        f"## {title}: {len(rows.quality)} prompts, {len(rows.models)} arms",
        "",
        (
            f"Best single arm: {rows.models[best]}, quality {quality.mean():.3f} at "
            f"{1000 * cost_usd.mean():.4f} USD per 1,000; oracle "
            f"{judge.oracle.quality[0].mean():.3f} at {1000 * judge.oracle.cost_usd[0].mean():.4f}."
        ),
        "",
        (
            "| router | quality gained at its cost | at any cost "
            "| cost saved at 99 % of its quality | nAIQ (0 = random mix, 1 = oracle) |"
        ),
        "|---|---|---|---|---|",
    ]
    for kind, outcomes in measured.items():
        figures = judge.figures(outcomes)
        draws = [judge.figures(outcomes, draw) for draw in weights[: DRAWS // 4]]
        affordable = np.flatnonzero(outcomes.cost_usd.mean(axis=1) <= cost_usd.mean())[0]
        gains = [outcomes.quality[point] - quality for point in (affordable, 0)]
        cells = [f"{g.mean():+.3f} ({bounds(weights @ g, '+.3f')})" for g in gains]
        cells.append(f"{figures.saved_at_99:.0%} ({bounds([d.saved_at_99 for d in draws], '.0%')})")
        cells.append(f"{figures.naiq:.2f} ({bounds([d.naiq for d in draws], '.2f')})")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    at = {
        name: int(np.abs(LAMBDAS * profile.willingness_to_pay_usd - 1).argmin())
        for name, profile in DEFAULT_PROFILES.items()
    }
    shipped = measured[SHIPPED]
    points = ", ".join(
        f"{name} {shipped.quality[i].mean():.3f} at {1000 * shipped.cost_usd[i].mean():.4f}"
        for name, i in at.items()
    )
    return [*lines, "", f"{SHIPPED} at the built-in profiles: {points} USD per 1,000.", ""]


def bounds(draws: Draws | list[float], form: str) -> str:
    """Format the 2.5 and 97.5 % quantiles."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{low:{form}} to {high:{form}}"
