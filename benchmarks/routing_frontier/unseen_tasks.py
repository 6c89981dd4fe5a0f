"""Measure the guard: `python -m benchmarks.routing_frontier.unseen_tasks --data DIR`.

Whole tasks, drawn at random, are held out of training. Test rows of the known tasks and of the
unseen ones are routed by K-means without a guard, with a guard that keeps nothing of the unknown,
and with the guard as it is fitted. Prints the tables of docs/explanation/routers.md.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.routing_frontier import protocol
from benchmarks.routing_frontier.protocol import labels_of
from benchmarks.routing_frontier.run import SETS
from gateway.routing.encoders import load_encoder
from router_models.estimators.guard import Guard
from router_models.evaluation.frontier import Judge, route
from router_models.statistics import select
from router_models.training.guard import fit_guard
from router_models.training.settings import KMeansSettings
from router_models.training.train import fit
from router_models.types import Encoder, Evaluations, Prediction

DRAWS: Final = 5
HELD_OUT_SHARE: Final = 0.2
LEAST_HELD_OUT: Final = 2
LEAST_ROWS: Final = 10
"""A task with fewer train rows counts neither as known nor as unseen: some families of
reasoning_gym lie in the test split only."""
STUDENT_T: Final = 2.776
"""97.5 % quantile at four degrees of freedom, for intervals over five draws."""
VARIANTS: Final = ("bare", "hard", "guarded")
FIGURES: Final = ("quality_first", "common_auc")
GREETINGS: Final = ("Hello!", "Good morning, how are you?")
PROTOCOLS: Final = ("every answer", "one answer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the parquet tables")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    arguments = parser.parse_args()
    encoder = load_encoder("static")
    results = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    for name in arguments.sets:
        results[name] = measure(arguments.data, name, encoder)
        arguments.out.write_text(json.dumps(results) + "\n")
    print("\n".join(table(results)))


def measure(folder: Path, name: str, encoder: Encoder) -> dict[str, list[dict[str, Any]]]:
    """Measure one set, every protocol and draw."""
    dataset = protocol.read(folder, name)
    labelled = replace(dataset, tasks=labels_of(name, dataset)).embedded(encoder)
    rows = protocol.rows_of(labelled)
    tuned = json.loads(Path(__file__).with_name("settings.json").read_text())[name]
    settings = (KMeansSettings(**tuned["kmeans (static)"]), KMeansSettings())
    found: dict[str, list[dict[str, Any]]] = {one: [] for one in PROTOCOLS}
    for draw in range(DRAWS):
        for answers, chosen in zip(PROTOCOLS, settings, strict=True):
            found[answers].append(
                measure_draw(rows, draw, chosen, encoder, is_sparse=answers != PROTOCOLS[0])
            )
            print(name, answers, draw, found[answers][-1], flush=True)
    return found


def measure_draw(
    rows: protocol.Rows, draw: int, settings: KMeansSettings, encoder: Encoder, *, is_sparse: bool
) -> dict[str, Any]:
    """Hold out one draw of tasks."""
    rng = np.random.default_rng([8, draw])
    names = sorted(set(rows.train.tasks))
    n_held_out = max(LEAST_HELD_OUT, round(HELD_OUT_SHARE * len(names)))
    unseen = set(rng.permutation(names)[:n_held_out].tolist())
    counts = Counter(rows.train.tasks)
    known = {task for task in names if counts[task] >= LEAST_ROWS} - unseen
    learn = rows_of_tasks(rows.train, set(names) - unseen)
    held = rows_of_tasks(rows.val, set(rows.val.tasks) - unseen)
    if is_sparse:
        learn, held = one_answer(learn, rng), one_answer(held, rng)
    estimator = fit(learn, held, settings, 0)
    guard = fit_guard(learn, held, 0)
    greetings = guard.familiarity(encoder.encode(GREETINGS))
    return {
        "unseen tasks": sorted(unseen),
        "kept": [guard.kept_quality, guard.kept_cost],
        "greetings": greetings.tolist(),
    } | {
        where: figures(part, estimator.predict(part.embeddings), guard)
        for where, part in (
            ("known", rows_of_tasks(rows.test, known)),
            ("unseen", rows_of_tasks(rows.test, unseen)),
        )
    }


def figures(part: Evaluations, bare: Prediction, guard: Guard) -> dict[str, Any]:
    """Route one part by each variant."""
    judge = Judge.of(part)
    familiarity = guard.familiarity(part.embeddings)
    hard = replace(guard, kept_quality=0.0, kept_cost=0.0)
    predictions = (bare, hard.shrink(bare, familiarity), guard.shrink(bare, familiarity))
    measured = [judge.figures(route(one, part)) for one in predictions]
    return {
        "rows": len(part.quality),
        "familiarity": float(familiarity.mean()),
        "unknown": float((familiarity < 0.05).mean()),
    } | {
        variant: {figure: getattr(one, figure) for figure in FIGURES}
        for variant, one in zip(VARIANTS, measured, strict=True)
    }


def rows_of_tasks(evaluations: Evaluations, tasks: set[str]) -> Evaluations:
    """Keep the rows of these tasks."""
    return select(evaluations, np.flatnonzero(np.isin(evaluations.tasks, sorted(tasks))))


def one_answer(evaluations: Evaluations, rng: np.random.Generator) -> Evaluations:
    """Keep one answer of each query, drawn at random, as a gateway's log would hold it."""
    chances = np.where(np.isfinite(evaluations.quality), rng.random(evaluations.quality.shape), -1)
    kept = np.arange(len(evaluations.models)) == chances.argmax(axis=1)[:, None]
    return replace(
        evaluations,
        quality=np.where(kept, evaluations.quality, np.float32(np.nan)),
        cost_usd=np.where(kept, evaluations.cost_usd, np.float32(np.nan)),
    )


def table(results: dict[str, Any]) -> Iterator[str]:
    """Lay out the Markdown tables: means over draws, differences with paired intervals."""
    for where, reference in (("known", "bare"), ("unseen", "hard")):
        yield f"\n{where} tasks: quality, then common AUC, each with its change from {reference}\n"
        for label, draws in _lines(results):
            cells = [label]
            for figure in FIGURES:
                values = {v: [draw[where][v][figure] for draw in draws] for v in VARIANTS}
                cells += [f"{np.mean(values[v]):.4f}".removeprefix("0") for v in VARIANTS]
                cells += [with_interval(np.subtract(values["guarded"], values[reference]))]
            yield f"| {' | '.join(cells)} |"
    yield "\nknown rows of familiarity below .05, kept of quality, of cost, and greetings\n"
    for label, draws in _lines(results):
        unknown = [draw["known"]["unknown"] for draw in draws]
        greetings = np.mean([draw["greetings"] for draw in draws], axis=0)
        kept = np.mean([draw["kept"] for draw in draws], axis=0)
        cells = [label, *(f"{value:.3f}" for value in (np.mean(unknown), *kept, *greetings))]
        yield f"| {' | '.join(cells)} |"


def _lines(results: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for name, protocols in results.items():
        for answers, draws in protocols.items():
            yield f"{name}, {answers}", draws


def with_interval(changes: Any) -> str:
    """Mean change over draws with its 95 % interval, in thousandths."""
    half = STUDENT_T * np.std(changes, ddof=1) / np.sqrt(len(changes))
    mean = float(np.mean(changes))
    return f"{1000 * mean:+.1f} [{1000 * (mean - half):+.1f}, {1000 * (mean + half):+.1f}]"


if __name__ == "__main__":
    main()
