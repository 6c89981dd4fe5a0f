"""Trains the routers that ship with the embedded pool, one per encoder, and measures the recipe.

The shipped router learns from every prompt. What it is worth is measured on prompts it did not see:
five folds, settings tuned inside each; one answer per prompt and model, greedy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from gateway.commands.train import carve, load_encoder
from gateway.config import DEFAULT_PROFILES
from gateway.datasets import read_dataset
from router_models.artifact import dump
from router_models.frontier import bootstrap_weights, complete
from router_models.guard import GuardedEstimator
from router_models.training.statistics import select
from router_models.training.train import train
from router_models.types import Evaluations, Float32, Prediction

FOLDS = 5
SEEDS = (0, 1, 2)
DRAWS = 2000
# A query unlike all prompts is open conversation rather than copying or arithmetic.
OPEN_TASKS = ("explain", "write")
ENCODERS = ("static", "minilm")
# No network: a few hundred rows are too few for one.
KINDS = ("kmeans", "knn", "ridge")
WILLINGNESS = {name: p.willingness_to_pay_usd for name, p in DEFAULT_PROFILES.items()}


@dataclass(frozen=True, slots=True)
class Measured:
    """One way of choosing on held-out prompts: quality and cost of each prompt."""

    name: str
    quality: Float32
    cost_usd: Float32


def build(evaluations_file: Path, folder: Path, report_file: Path) -> None:
    """Measure every kind, keep the best per encoder, write its artefact and the report."""
    lines = []
    for name in ENCODERS:
        encoder = load_encoder(name)
        rows = complete(read_dataset(evaluations_file).embedded(encoder).evaluations())
        lines += [f"## {encoder.id}: {len(rows.quality)} prompts, {len(rows.models)} arms", ""]
        scores = {}
        for kind in KINDS:
            scores[kind], table = compare(rows, kind)
            lines += [*table, ""]
        best = max(scores, key=lambda kind: scores[kind])
        router = fit(rows, best, seed=0)
        data = dump(
            router,
            encoder,
            created_at=datetime(2026, 11, 22, tzinfo=UTC),
            training={"kind": best, "held_out_gain": scores[best], "folds": FOLDS},
            provenance={"queries": len(rows.quality), "evaluations": rows.quality.size},
        )
        (folder / f"router-{encoder.id}.safetensors").write_bytes(data)
        lines += [f"Shipped: {best}, {len(data) / 1024:.0f} KiB.", ""]
    report_file.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


def fit(rows: Evaluations, kind: str, seed: int) -> GuardedEstimator:
    """Train as `waypost train` does; unfamiliar queries are expected to be open ones."""
    router = train(*carve(rows), kind, seed)
    is_open = np.array([task in OPEN_TASKS for task in rows.tasks], bool)
    if not is_open.any():
        return router
    guard = replace(
        router.guard,
        quality_means=rows.quality[is_open].mean(axis=0),
        cost_means_usd=rows.cost_usd[is_open].mean(axis=0),
    )
    return GuardedEstimator(router.estimator, guard)


def compare(rows: Evaluations, kind: str) -> tuple[float, list[str]]:
    """Return the gain over the best single arm where cost hardly counts, and a table."""
    ways = list(_held_out(rows, kind))
    best = ways[0]
    table = [
        f"| {kind} | quality | USD per 1,000 | quality gained over {best.name} (95 %) |",
        "|---|---|---|---|",
    ]
    weights = bootstrap_weights(len(rows.quality), DRAWS, np.random.default_rng(0))
    gains = {}
    for way in ways:
        gain = way.quality - best.quality
        low, high = np.quantile(weights @ gain, [0.025, 0.975])
        gains[way.name] = float(gain.mean())
        table.append(
            f"| {way.name} | {way.quality.mean():.3f} | {1000 * way.cost_usd.mean():.4f} | "
            f"{gain.mean():+.3f} ({low:+.3f} to {high:+.3f}) |"
        )
    return gains["router, quality"], table


def _held_out(rows: Evaluations, kind: str) -> Iterator[Measured]:
    """Yield the best single arm, the router at each profile, and the oracle."""
    queries = np.arange(len(rows.quality))
    single = int(rows.quality.mean(axis=0).argmax())
    name = rows.models[single]
    yield Measured(name, rows.quality[:, single], rows.cost_usd[:, single])
    predictions = [_predict_folds(rows, kind, seed) for seed in SEEDS]
    for profile, willingness in WILLINGNESS.items():
        quality, cost = [], []
        for prediction in predictions:
            chosen = (prediction.quality - prediction.cost_usd / willingness).argmax(axis=1)
            quality.append(rows.quality[queries, chosen])
            cost.append(rows.cost_usd[queries, chosen])
        yield Measured(f"router, {profile}", np.mean(quality, axis=0), np.mean(cost, axis=0))
    chosen = (rows.quality - rows.cost_usd).argmax(axis=1)
    yield Measured("oracle", rows.quality[queries, chosen], rows.cost_usd[queries, chosen])


def _predict_folds(rows: Evaluations, kind: str, seed: int) -> Prediction:
    quality, cost = np.empty_like(rows.quality), np.empty_like(rows.cost_usd)
    order = np.random.default_rng(seed).permutation(len(rows.quality))
    for held_out in np.array_split(order, FOLDS):
        known: Sequence[int] = np.setdiff1d(order, held_out)
        prediction = fit(select(rows, known), kind, seed).predict(rows.embeddings[held_out])
        quality[held_out], cost[held_out] = prediction.quality, prediction.cost_usd
    return Prediction(quality, cost)
