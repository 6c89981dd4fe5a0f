"""Measure every router on real evaluations: `python -m benchmarks.routing_frontier.run --data DIR`.

Trains on `train`, tunes on `val`, measures on `test` (`val` of mmlu_pro, which has no test split),
against the best single model, the oracle, random mixes and an untuned TF-IDF + ridge router on the
same rows and lambdas. Writes results.json, README.md and one picture per set beside itself.
"""

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.routing_frontier import protocol, report
from gateway.problems.datasets import Dataset
from gateway.routing.encoders import load_encoder
from router_models.evaluation.frontier import (
    Figures,
    Judge,
    Outcomes,
    bootstrap_weights,
    replicate,
    route,
)
from router_models.training.baselines import RIDGE_ALPHAS, clusters, tfidf_ridge
from router_models.training.guard import fit_guard
from router_models.training.settings import KINDS, Settings
from router_models.training.train import fit, train, tune
from router_models.types import Evaluations, Prediction

SETS: Final = ("zeroeval", "mmlu_pro", "reasoning_gym", "llmrouter_ulab")
ENCODERS: Final = ("static", "minilm")
SEEDS: Final = 5
REPLICATES: Final = 400
TFIDF: Final = "tfidf-ridge (untuned)"
UNTUNED_ALPHA: Final = 10.0
HELD_OUT_KINDS: Final = {"static": ("kmeans", "ridge", "mlp"), "minilm": ("kmeans", "ridge")}
FIGURES: Final = tuple(item.name for item in fields(Figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the parquet tables")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--embeddings", type=Path, help="<encoder id>/<set>.npz, to save time")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--retune", action="store_true", help="tune again where settings.json has settings"
    )
    arguments = parser.parse_args()
    results_file = arguments.out / "results.json"
    settings_file = arguments.out / "settings.json"
    settings = json.loads(settings_file.read_text()) if settings_file.is_file() else {}
    results = json.loads(results_file.read_text()) if results_file.is_file() else {}
    for name in arguments.sets:
        started = time.perf_counter()
        dataset = protocol.read(arguments.data, name)
        embedded = {e: _embed(dataset, e, name, arguments.embeddings) for e in ENCODERS}
        known = {} if arguments.retune else settings.get(name, {})
        settings[name] = _tuned(embedded, known)
        settings_file.write_text(json.dumps(settings, indent=1) + "\n")
        results[name] = _measure_set(name, embedded, settings[name], arguments.seeds, arguments.out)
        results[name]["wall_s"] = round(time.perf_counter() - started, 1)
        results_file.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{name}: {results[name]['wall_s']} s", flush=True)
    (arguments.out / "README.md").write_text(report.render(results))


def _embed(dataset: Dataset, encoder_name: str, name: str, folder: Path | None) -> Dataset:
    encoder = load_encoder(encoder_name)  # type: ignore[arg-type]
    if folder is None:
        return dataset.embedded(encoder)
    vectors = protocol.load_embeddings(folder / encoder.id / f"{name}.npz", dataset.query_ids)
    return replace(dataset, embeddings=vectors, encoder_id=encoder.id)


def _tuned(embedded: dict[str, Dataset], known: dict[str, Any]) -> dict[str, Any]:
    """Tune what is not known, every kind on every encoder, on seed 0; most of the time."""
    settings = dict(known)
    for encoder, dataset in embedded.items():
        rows = protocol.rows_of(dataset)
        for kind in KINDS:
            if f"{kind} ({encoder})" in settings:
                continue
            best = tune(rows.train, rows.val, kind, 0)[0]
            settings[f"{kind} ({encoder})"] = asdict(best.settings)
            print(f"  {kind} ({encoder}): {best}", flush=True)
    return settings


def _measure_set(
    name: str,
    embedded: dict[str, Dataset],
    settings: dict[str, Any],
    seeds: int,
    out: Path,
) -> dict[str, Any]:
    rows = {encoder: protocol.rows_of(dataset) for encoder, dataset in embedded.items()}
    any_rows = rows["static"]
    judge = Judge.of(any_rows.test)
    weights = bootstrap_weights(len(any_rows.test.quality), REPLICATES, np.random.default_rng(0))
    routers = _routers(rows, settings, seeds)
    base = [replicate(judge, outcomes, weights) for outcomes in routers[TFIDF]]
    table = {}
    for label, runs in routers.items():
        draws = base if label == TFIDF else [replicate(judge, o, weights) for o in runs]
        table[label] = _summary(judge, runs, draws, base[0], judge.figures(routers[TFIDF][0]))
    references = {"oracle": judge.oracle, "random mix": judge.mix()}
    for label, outcomes in references.items():
        table[label] = {f: {"value": v} for f, v in asdict(judge.figures(outcomes)).items()}
    best = judge.best_single()
    cost, quality = judge.single_models.points()
    report.draw(out / f"{name}.png", name, judge, {k: runs[0] for k, runs in routers.items()})
    return {
        "train_queries": len(any_rows.train.quality),
        "val_queries": len(any_rows.val.quality),
        "test_queries": len(any_rows.test.quality),
        "models": len(any_rows.test.models),
        "best_single": {
            "model": any_rows.test.models[best],
            "quality": float(quality[best]),
            "cost_usd": float(cost[best]),
        },
        "routers": table,
        "settings": settings,
        "held_out_tasks": {e: _held_out(name, d, settings, e) for e, d in embedded.items()},
        "random_splits": _random_splits(embedded["static"], settings),
    }


def _routers(
    rows: dict[str, protocol.Rows], settings: dict[str, Any], seeds: int
) -> dict[str, list[Outcomes]]:
    """Train every kind on every encoder with every seed, and the baseline."""
    any_rows = rows["static"]
    routers = {
        TFIDF: [_tfidf(any_rows, (UNTUNED_ALPHA,))],
        "tfidf-ridge (tuned)": [_tfidf(any_rows, RIDGE_ALPHAS)],
    }
    for encoder, split in rows.items():
        grouped = clusters(split.train, split.val, split.test, 0)
        routers[f"Avengers-Pro clusters ({encoder})"] = [
            route(grouped.scores, split.test, grouped.lambdas)
        ]
        for kind in KINDS:
            label = f"{kind} ({encoder})"
            chosen = KINDS[kind](**settings[label])
            runs = seeds if kind in {"kmeans", "mlp"} else 1
            routers[label] = [
                route(_trained(split, kind, seed, chosen), split.test) for seed in range(runs)
            ]
    return routers


def _tfidf(rows: protocol.Rows, alphas: Sequence[float]) -> Outcomes:
    scores = tfidf_ridge(rows.train, rows.val, rows.test, alphas, 0).scores
    return route(scores, rows.test)


def _trained(split: protocol.Rows, kind: str, seed: int, settings: Settings) -> Prediction:
    router = train(split.train, split.val, kind, seed, settings)
    return router.predict(split.test.embeddings)


def _summary(
    judge: Judge,
    runs: list[Outcomes],
    draws: list[dict[str, Any]],
    base: dict[str, Any],
    base_figures: Figures,
) -> dict[str, Any]:
    """Mean over seeds; intervals over seeds and bootstrap draws; difference paired by query."""
    summary: dict[str, Any] = {}
    measured = [asdict(judge.figures(outcomes)) for outcomes in runs]
    for figure in FIGURES:
        values = np.array([one[figure] for one in measured])
        pooled = np.concatenate([draw[figure] for draw in draws])
        paired = np.concatenate([draw[figure] - base[figure] for draw in draws])
        summary[figure] = {
            "value": float(values.mean()),
            "seed_deviation": float(values.std()),
            "interval": np.quantile(pooled, [0.025, 0.975]).tolist(),
            "over_tfidf": float(values.mean() - getattr(base_figures, figure)),
            "over_tfidf_interval": np.quantile(paired, [0.025, 0.975]).tolist(),
        }
    return summary


def _held_out(
    name: str, dataset: Dataset, settings: dict[str, Any], encoder: str
) -> dict[str, float]:
    """Hold whole tasks out of training; quality on them where cost does not count."""
    labels = report.labels_of(name, dataset)
    rows = protocol.rows_of(replace(dataset, tasks=labels))
    names = sorted(set(rows.test.tasks))
    folds = [names[i::10] for i in range(10)] if len(names) > 20 else [[one] for one in names]
    found: dict[str, list[tuple[float, int]]] = {}
    for fold in folds if len(folds) > 1 else []:
        parts = {n: np.array(getattr(rows, n).tasks) for n in ("train", "val", "test")}
        learn = protocol.without(rows.train, parts["train"], fold, inside=False)
        held = protocol.without(rows.val, parts["val"], fold, inside=False)
        new = protocol.without(rows.test, parts["test"], fold, inside=True)
        known = protocol.without(rows.test, parts["test"], fold, inside=False)
        best = int(np.nanmean(learn.quality, axis=0).argmax())
        _note(found, "best single model of the train tasks", [new.quality[:, best].mean()], new)
        guard = fit_guard(learn, held, 0)
        for kind in HELD_OUT_KINDS[encoder]:
            chosen = KINDS[kind](**settings[f"{kind} ({encoder})"])
            estimator = fit(learn, held, chosen, 0)
            for part, where in ((new, "unseen"), (known, "seen")):
                bare = estimator.predict(part.embeddings)
                guarded = guard.shrink(bare, guard.familiarity(part.embeddings))
                _note(found, f"{kind}, {where} tasks, bare", _first(bare, part), part)
                _note(found, f"{kind}, {where} tasks, guarded", _first(guarded, part), part)
        for part, where in ((new, "unseen"), (known, "seen")):
            familiarity = guard.familiarity(part.embeddings)
            _note(found, f"familiarity of {where} tasks", familiarity, part)
    return {
        label: float(np.average([v for v, _ in pairs], weights=[n for _, n in pairs]))
        for label, pairs in found.items()
    }


def _note(
    found: dict[str, list[tuple[float, int]]], label: str, values: Iterable[Any], part: Evaluations
) -> None:
    found.setdefault(label, []).append((float(np.mean(list(values))), len(part.quality)))


def _first(prediction: Prediction, truth: Evaluations) -> Any:
    return truth.quality[np.arange(len(truth.quality)), prediction.quality.argmax(axis=1)]


def _random_splits(dataset: Dataset, settings: dict[str, Any]) -> dict[str, list[float]]:
    """Quality where cost does not count, on five random 70/10/20 splits of all queries."""
    if "test" not in dataset.splits:
        return {}
    found: dict[str, list[float]] = {"best single": [], TFIDF: [], "kmeans (static)": []}
    chosen = KINDS["kmeans"](**settings["kmeans (static)"])
    for seed in range(5):
        splits = protocol.random_splits(len(dataset.splits), seed)
        rows = protocol.rows_of(dataset, splits)
        judge = Judge.of(rows.test)
        ours = _trained(rows, "kmeans", seed, chosen)
        found["best single"].append(float(judge.single_models.points()[1].max()))
        found[TFIDF].append(judge.figures(_tfidf(rows, (UNTUNED_ALPHA,))).quality_first)
        found["kmeans (static)"].append(judge.figures(route(ours, rows.test)).quality_first)
    return found


if __name__ == "__main__":
    main()
