"""How often acceptance lets a better and a worse router in, on real evaluations.

``python -m benchmarks.router_acceptance.run FOLDER_OF_DATA`` writes ``results.json`` and
``README.md`` beside this file.
"""

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.routing_frontier.protocol import Rows, read, rows_of
from gateway.artifacts.frontier_file import prices_of
from gateway.routing.encoders import load_encoder
from gateway.settings.config import GatewaySettings
from router_models.artifacts.artifact import dump, load
from router_models.artifacts.router import Router
from router_models.evaluation.acceptance import AcceptanceCriteria, decide
from router_models.evaluation.frontier import oracle_gain
from router_models.evaluation.held_out import HeldOut
from router_models.evaluation.off_policy import LoggedChoices
from router_models.statistics import select
from router_models.training.settings import KMeansSettings
from router_models.training.train import train
from router_models.types import Encoder, Evaluations

SETS: Final = ("llmrouter_ulab", "zeroeval")
QUERIES: Final = (100, 300, 1000)
LOGS: Final = ("one answer", "one answer, drawn", "all answers")
DRAWS: Final = 20
WEAK_ROWS: Final = 150
HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Line:
    """How often `new` took the place of `active`, judged on so many held-out queries.

    Attributes:
        true_difference: Of the shares of the oracle's gain on all test rows.
        accepted: Share of the draws.
        seen_to_lose: Share of the draws whose best guess was a loss beyond the tolerance.
    """

    data: str
    active: str
    new: str
    log: str
    queries: int
    true_difference: float
    accepted: float
    seen_to_lose: float


def one_each(rows: Evaluations, rng: np.random.Generator) -> Evaluations:
    """Keep one model's answer per query, as a log has it."""
    kept = np.zeros_like(rows.quality, bool)
    kept[np.arange(len(kept)), rng.integers(0, kept.shape[1], len(kept))] = True
    quality, cost = (np.where(kept, table, np.nan) for table in (rows.quality, rows.cost_usd))
    return replace(rows, quality=quality, cost_usd=cost)


def routers(rows: Rows, encoder: Encoder) -> dict[str, Router]:
    """One that learned from all train rows, one from a few, one from answers to other queries."""
    rng = np.random.default_rng(0)
    log = one_each(rows.train, rng)
    order = rng.permutation(len(log.quality))
    few = rng.choice(len(log.quality), WEAK_ROWS, replace=False)
    tables = {
        "strong": log,
        "weak": select(log, few),
        "harmful": replace(log, quality=log.quality[order], cost_usd=log.cost_usd[order]),
    }
    made = {}
    for name, table in tables.items():
        estimator = train(table, rows.val, "kmeans", 0, KMeansSettings())
        now = datetime(2026, 11, 22, tzinfo=UTC)
        data = dump(estimator, encoder, created_at=now, training={}, provenance={})
        made[name] = load(data, encoder)
    return made


def held_out(rows: Rows, log: str, queries: int, seed: int) -> HeldOut:
    """Draw as many test queries, with one answer each or with all."""
    rng = np.random.default_rng(seed)
    drawn = select(rows.test, rng.choice(len(rows.test.quality), queries, replace=False))
    single = one_each(drawn, rng)
    at = np.nonzero(np.isfinite(single.quality))
    choices = LoggedChoices(
        single.embeddings,
        at[1],
        single.quality[at],
        single.cost_usd[at],
        np.full(single.quality.shape, 1.0 / len(single.models), np.float32),
        single.models,
        at[0],
    )
    return HeldOut(
        drawn if log == "all answers" else single,
        choices if log == "one answer, drawn" else choices.select(np.empty(0, np.intp)),
        one_each(rows.train, rng),
        PRICES,
    )


PRICES: Final = prices_of(GatewaySettings(data_dir=HERE))


def measure(name: str, rows: Rows, made: Mapping[str, Router]) -> Iterator[Line]:
    """Judge each pair on each kind of log and number of queries."""
    criteria = AcceptanceCriteria()
    gains = {
        key: oracle_gain(router.serving_estimator.predict(rows.test.embeddings), rows.test, PRICES)
        for key, router in made.items()
    }
    pairs = (("weak", "strong"), ("strong", "weak"), ("strong", "harmful"))
    for (active, new), log, queries in itertools.product(pairs, LOGS, QUERIES):
        decisions = [
            decide(
                {"shared": made[new]},
                made[active],
                held_out(rows, log, queries, seed),
                criteria,
                np.random.default_rng(seed),
            )
            for seed in range(DRAWS)
        ]
        lost = [d.figures.get("difference", 0.0) < -criteria.tolerance for d in decisions]
        yield Line(
            name,
            active,
            new,
            log,
            queries,
            gains[new] - gains[active],
            float(np.mean([decision.is_accepted for decision in decisions])),
            float(np.mean(lost)),
        )


def table(lines: Sequence[Line]) -> str:
    """Render the lines, one pair of routers and kind of log each."""
    head = "| data | active | new | true difference | log | " + " | ".join(map(str, QUERIES)) + " |"
    rows = [head, "|" + "---|" * (5 + len(QUERIES))]
    for start in range(0, len(lines), len(QUERIES)):
        same = lines[start : start + len(QUERIES)]
        first = same[0]
        cells = [first.data, first.active, first.new, f"{first.true_difference:+.2f}", first.log]
        cells += [f"{line.accepted:.0%}" for line in same]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main(folder: Path) -> None:
    """Measure all sets and write what came out."""
    encoder = load_encoder("static")
    lines: list[Line] = []
    for name in SETS:
        rows = rows_of(read(folder, name).embedded(encoder))
        lines += measure(name, rows, routers(rows, encoder))
    (HERE / "results.json").write_text(json.dumps([asdict(line) for line in lines], indent=1))
    page = (HERE / "template.md").read_text()
    (HERE / "README.md").write_text(page.replace("{table}", table(lines)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
