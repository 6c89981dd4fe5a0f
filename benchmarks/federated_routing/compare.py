"""One deal of a set's queries: every arm trained on it, measured pooled and client by client."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.federated_routing.arms import (
    ARMS,
    FEDERATED,
    KINDS,
    LOCAL,
    AnySettings,
    routers_of,
)
from benchmarks.federated_routing.measure import Float64, Measured, mean_of, measure
from benchmarks.federated_routing.protocol import Client, join
from federation.learning.personal import personalise
from router_models.evaluation.frontier import Judge, Outcomes, bootstrap_weights, route
from router_models.types import Estimator, Evaluations

MIXTURE: Final = "mixture"
DRAWS: Final = 200

Choice = Mapping[str, Mapping[str, AnySettings]]
"""Settings by kind and arm."""

Routers = dict[str, list[Estimator]]
"""By arm, one per client."""


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """Test rows with all that routers are measured against on them."""

    rows: Evaluations
    judge: Judge
    weights: Float64

    @classmethod
    def of(cls, rows: Evaluations, seed: int) -> "Bench":
        """Draw the bootstrap weights; equal rows and seeds give equal weights."""
        weights = bootstrap_weights(len(rows.quality), DRAWS, np.random.default_rng(seed))
        return cls(rows, Judge.of(rows), weights)

    def outcomes(self, router: Estimator) -> Outcomes:
        """Let a router choose."""
        return route(router.predict(self.rows.embeddings), self.rows)

    def measure(self, outcomes: Outcomes) -> Measured:
        """Sum up what was chosen."""
        return measure(self.judge, outcomes, self.weights)


@dataclass(frozen=True, slots=True, eq=False)
class Deal:
    """What came of one deal.

    Attributes:
        pooled: By kind and arm, on all clients' test rows; local is the mean over clients.
        own: By kind and arm, for each client on its own test rows.
        references: Oracle, random mix and rivals, on all clients' test rows.
        frontiers: By label, points of mean cost and quality.
        best_single: Quality and cost of the best model, known afterwards.
    """

    pooled: dict[str, dict[str, Measured]]
    own: dict[str, dict[str, list[Measured]]]
    references: dict[str, Measured]
    frontiers: dict[str, tuple[Float64, Float64]]
    best_single: tuple[float, float]


def train_all(clients: Sequence[Client], kind: str, choice: Choice, seed: int) -> Routers:
    """Train every arm, and mix each client's own router with the federated one."""
    rows = [client.rows for client in clients]
    routers = {arm: routers_of(arm, rows, choice[kind][arm], seed) for arm in ARMS}
    routers[MIXTURE] = [
        personalise(mine, ours, own.validation)
        for mine, ours, own in zip(routers[LOCAL], routers[FEDERATED], rows, strict=True)
    ]
    return routers


def compare(
    clients: Sequence[Client], choice: Choice, seed: int, rivals: Mapping[str, Outcomes]
) -> Deal:
    """Train and measure everything on one deal.

    Args:
        choice: Settings of every kind and arm.
        seed: Of training and of the bootstrap.
        rivals: What other routers chose on the pooled test rows.
    """
    everybody = Bench.of(join(client.test for client in clients), seed)
    alone = [Bench.of(client.test, seed) for client in clients]
    references = {"oracle": everybody.judge.oracle, "random mix": everybody.judge.mix(), **rivals}
    frontiers = {label: outcomes.points() for label, outcomes in references.items()}
    frontiers["single models"] = everybody.judge.single_models.points()
    pooled: dict[str, dict[str, Measured]] = {}
    own: dict[str, dict[str, list[Measured]]] = {}
    for kind in KINDS:
        routers = train_all(clients, kind, choice, seed)
        pooled[kind] = {}
        for arm in ARMS:
            chosen = [everybody.outcomes(one) for one in _distinct(routers[arm])]
            pooled[kind][arm] = mean_of([everybody.measure(outcomes) for outcomes in chosen])
            frontiers[f"{kind} {arm}"] = _mean_points(chosen)
        own[kind] = {
            arm: [
                bench.measure(bench.outcomes(one))
                for bench, one in zip(alone, routers[arm], strict=True)
            ]
            for arm in routers
        }
    cost, quality = everybody.judge.single_models.points()
    best = everybody.judge.best_single()
    return Deal(
        pooled,
        own,
        {label: everybody.measure(outcomes) for label, outcomes in references.items()},
        frontiers,
        (float(quality[best]), float(cost[best])),
    )


def _distinct(routers: list[Estimator]) -> list[Estimator]:
    """Each router once; federated and centralised training make one for all clients."""
    return list({id(router): router for router in routers}.values())


def _mean_points(chosen: Sequence[Outcomes]) -> tuple[Float64, Float64]:
    cost, quality = zip(*(outcomes.points() for outcomes in chosen), strict=True)
    return np.mean(cost, axis=0), np.mean(quality, axis=0)
