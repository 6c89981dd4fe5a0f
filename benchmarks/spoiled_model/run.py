"""After how many answers a model that got worse is routed around, with and without fading answers.

A log of one answer per query, nine in ten by the router that serves and the others drawn evenly. Of
all answers the model that is chosen most then gets worse. Every `EVERY` answers a router is trained
and judged as the learner does it; whether older answers fade is the only difference.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.routing_frontier.protocol import read
from gateway.learning.learner import CANDIDATE
from gateway.routing.encoders import load_encoder
from router_models.artifacts.artifact import dump, load
from router_models.artifacts.registry import ModelRegistry
from router_models.artifacts.router import Router
from router_models.artifacts.sealed_file import EncoderIdentity
from router_models.evaluation.acceptance import AcceptanceCriteria, decide
from router_models.evaluation.frontier import complete
from router_models.evaluation.held_out import HeldOut
from router_models.evaluation.log_rows import LoggedRows
from router_models.training.kmeans import fit_kmeans
from router_models.training.recency import Changes, find_changes
from router_models.training.settings import KMeansSettings
from router_models.types import Evaluations, Float32

BEFORE: Final = 20_000
AFTER: Final = 5_000
EVERY: Final = 500
EXPLORED: Final = 0.1
LEFT: Final = 0.5
"""Of the quality of the model that gets worse."""
PRICE: Final = 10.0
SETTINGS: Final = KMeansSettings(n_clusters=64)
NO_ALIASES: Final = ModelRegistry()


@dataclass
class Traffic:
    """Queries drawn from a table, and a log of what was answered."""

    truth: Evaluations
    encoder: EncoderIdentity
    rng: np.random.Generator
    query: list[int] = field(default_factory=list)
    model: list[int] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    odds: list[Float32] = field(default_factory=list)

    def choices(self, router: Router | None) -> NDArray[np.intp]:
        """What a router chooses for each query of the table; without one the dearest model."""
        truth = self.truth
        if router is None:
            return np.full(len(truth.quality), int(truth.cost_usd.mean(axis=0).argmax()))
        found = router.serving_estimator.predict(truth.embeddings)
        chosen: NDArray[np.intp] = (found.quality - PRICE * found.cost_usd).argmax(axis=1)
        return chosen

    def answer(self, router: Router | None, answers: int) -> None:
        """Let the router serve, and explore."""
        chosen, n_models = self.choices(router), len(self.truth.models)
        for query in self.rng.integers(0, len(chosen), answers):
            odds = np.full(n_models, EXPLORED / n_models, np.float32)
            odds[chosen[query]] += 1.0 - EXPLORED
            model = int(self.rng.choice(n_models, p=odds / odds.sum()))
            self.query.append(int(query))
            self.model.append(model)
            self.score.append(float(self.truth.quality[query, model]))
            self.odds.append(odds)

    def log(self, split: NDArray[np.int8]) -> LoggedRows:
        """Return the log as the learner reads it."""
        query, model = np.array(self.query, np.intp), np.array(self.model, np.intp)
        drawn = np.flatnonzero(split[query] == 2)
        return LoggedRows(
            self.truth.embeddings,
            split,
            self.truth.models,
            query,
            model,
            np.array(self.score, np.float32),
            self.truth.cost_usd[query, model],
            drawn,
            np.array(self.odds, np.float32)[drawn],
        )


def trained(rows: LoggedRows, encoder: EncoderIdentity) -> Router:
    """Learn from the train rows."""
    estimator = fit_kmeans(rows.evaluations("train", rows.models, NO_ALIASES), SETTINGS, 0)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return load(dump(estimator, encoder, created_at=now, training={}, provenance={}), encoder)


def shares(
    truth: Evaluations, encoder: EncoderIdentity, seed: int, *, fades: bool
) -> Iterator[tuple[int, float, float, Changes]]:
    """Yield answers since the change, the model's share, what is served is worth, half-lives."""
    rng = np.random.default_rng(seed)
    split = rng.choice(3, len(truth.quality), p=[0.7, 0.1, 0.2]).astype(np.int8)
    traffic = Traffic(truth, encoder, rng)
    traffic.answer(None, BEFORE // 2)
    active = trained(traffic.log(split), encoder)
    traffic.answer(active, BEFORE // 2)
    worse = int(np.bincount(traffic.choices(active)).argmax())
    factor = np.where(np.arange(len(truth.models)) == worse, np.float32(LEFT), np.float32(1.0))
    traffic.truth = replace(truth, quality=truth.quality * factor)
    changes = Changes()
    for since in range(0, AFTER + 1, EVERY):
        chosen = traffic.choices(active)
        at = np.arange(len(chosen)), chosen
        value = traffic.truth.quality[at] - PRICE * traffic.truth.cost_usd[at]
        yield since, float((chosen == worse).mean()), float(value.mean()), changes
        traffic.answer(active, EVERY)
        rows = traffic.log(split)
        changes = find_changes(rows, 0) if fades else Changes()
        new = trained(changes.fading(rows), encoder)
        held_out = HeldOut.of(changes.since(rows), np.geomspace(PRICE / 10, PRICE * 10, 5))
        decision = decide(
            {CANDIDATE: new}, active, held_out, AcceptanceCriteria(), np.random.default_rng(0)
        )
        active = new if decision.is_accepted else active


def main() -> None:
    """Print the model's share after each training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", default="llmrouter_ulab")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    encoder = load_encoder("static")
    truth = replace(
        complete(read(given.data, given.set).embedded(encoder).evaluations()), tokens=None
    )
    for seed in range(given.seeds):
        for fades in (False, True):
            found = list(shares(truth, encoder, seed, fades=fades))
            name = "answers fade" if fades else "all answers count"
            for since, share, value, changes in found:
                figures = f"{share:.3f}", f"{value:+.4f}", dict(changes.half_lives)
                print(seed, name, since, *figures, sep=" | ")
            print(flush=True)


if __name__ == "__main__":
    main()
