"""What a router gains by reading the shape of a request, on applications that are made up.

No public set of answers has tools or system prompts. So every query gets the request of an
application: that of its own task, or one drawn at random, which tells nothing. Some texts are
replaced by one that tells nothing either. A third of the train and validation rows is held out;
no test row is read.
"""

import argparse
import hashlib
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.routing_frontier import protocol
from gateway.routing.encoders import load_encoder
from router_models.encoders.request_shape import append_shape
from router_models.evaluation.frontier import Interval, Judge, complete, route
from router_models.statistics import join, select
from router_models.training.request_weight import WEIGHTS, choose_weight, weighted
from router_models.training.settings import KMeansSettings
from router_models.training.train import Trial, fit
from router_models.types import Encoder, Evaluations

VAGUE = "Go on."
SHARE_VAGUE = 0.5
N_RANDOM = 12
SETTINGS = KMeansSettings()
SEEDS = 2


def application(label: str) -> dict[str, Any]:
    """Make up what the requests of an application have in common."""
    code = hashlib.sha256(label.encode()).digest()
    body: dict[str, Any] = {"messages": [{"role": "system", "content": f"You serve {label}."}]}
    if code[0] % 3 == 0:
        names = [f"tool_{(code[1] + index) % 50}" for index in range(1 + code[2] % 5)]
        body["tools"] = [{"type": "function", "function": {"name": name}} for name in names]
    if code[0] % 4 == 1:
        body["response_format"] = {"type": "json_object"}
    return body


def one_answer_each(evaluations: Evaluations, rng: np.random.Generator) -> Evaluations:
    """Keep one answer to each query, as a gateway's log does."""
    answered = np.isfinite(evaluations.quality)
    kept = np.where(answered, rng.random(answered.shape), -1.0)
    is_kept = kept == kept.max(axis=1, keepdims=True)
    quality, cost = (
        np.where(is_kept, each, np.nan).astype(np.float32)
        for each in (evaluations.quality, evaluations.cost_usd)
    )
    return replace(evaluations, quality=quality, cost_usd=cost)


def figures(
    train: Evaluations, held_out: Evaluations, n_text: int, seed: int
) -> tuple[list[float], float]:
    """Return nAIQ by each of `WEIGHTS`, and the weight that training chooses without these rows."""
    truth = complete(held_out)
    judge, found = Judge.of(truth), []
    for weight in WEIGHTS:
        rows, asked = (weighted(part, n_text, weight) for part in (train, truth))
        predicted = fit(rows, rows, SETTINGS, seed).predict(asked.embeddings)
        found.append(judge.figures(route(predicted, truth)).naiq)
    is_val = np.arange(len(train.quality)) % 8 == 0
    learn, tune = (select(train, np.flatnonzero(each)) for each in (~is_val, is_val))
    untuned = Trial(SETTINGS, 0.0, Interval(0.0, 0.0, 0.0))
    return found, choose_weight(learn, tune, untuned, n_text, seed)[0]


def with_requests(
    rows: Evaluations, encoder: Encoder, *, is_random: bool, seed: int
) -> Evaluations:
    """Give each query the request of an application."""
    rng = np.random.default_rng(seed)
    drawn = [f"shop {number}" for number in rng.integers(0, N_RANDOM, len(rows.tasks))]
    labels = drawn if is_random else rows.tasks
    bodies = {label: application(label) for label in set(labels)}
    shaped = zip(rows.embeddings, labels, strict=True)
    whole = [append_shape(encoder.id, text, bodies[label])[1] for text, label in shaped]
    return replace(rows, embeddings=np.stack(whole))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("names", nargs="+")
    arguments = parser.parse_args()
    encoder = load_encoder("static")
    (vague,) = encoder.encode([VAGUE])
    print(
        "| set | answers | texts | application | " + " | ".join(map(str, WEIGHTS)) + " | chosen |"
    )
    print("|---|---|---|---|" + "---|" * len(WEIGHTS) + "---|")
    for name in arguments.names:
        split = protocol.rows_of(protocol.read(arguments.data, name).embedded(encoder))
        known = join(split.train, split.val)
        n_rows = len(known.quality)
        is_vague = np.random.default_rng(0).random((n_rows, 1)) < SHARE_VAGUE
        unclear = replace(known, embeddings=np.where(is_vague, vague, known.embeddings))
        cases = itertools.product(
            (("all", False), ("one", True)),
            (("clear", known), ("half vague", unclear)),
            (("its task", False), ("random", True)),
        )
        for (answers, is_sparse), (texts, rows), (application_of, is_random) in cases:
            outcomes = []
            for seed in range(SEEDS):
                rng = np.random.default_rng(seed)
                is_held = rng.random(n_rows) < 1 / 3
                shaped = with_requests(rows, encoder, is_random=is_random, seed=seed)
                train = select(shaped, np.flatnonzero(~is_held))
                train = one_answer_each(train, rng) if is_sparse else train
                held_out = select(shaped, np.flatnonzero(is_held))
                outcomes.append(figures(train, held_out, encoder.dimension, seed))
            means = np.mean([found for found, _ in outcomes], axis=0)
            shown = " | ".join(f"{naiq:.3f}" for naiq in means)
            chosen = ", ".join(f"{weight:g}" for _, weight in outcomes)
            print(
                f"| {name} | {answers} | {texts} | {application_of} | {shown} | {chosen} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
