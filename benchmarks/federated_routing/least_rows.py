"""What it costs that no cell of fewer rows than a minimum leaves a client."""

from collections.abc import Mapping
from typing import Any, Final

from benchmarks.federated_routing.compare import Bench
from benchmarks.federated_routing.federated import train_together
from benchmarks.federated_routing.measure import Measured
from benchmarks.federated_routing.protocol import join, split
from benchmarks.federated_routing.summary import figures_of
from federation.learning.settings import FederatedSettings
from router_models.types import Evaluations

ALPHA: Final = 0.6
MINIMUMS: Final = (1, 3, 10)
MOST_SEEDS: Final = 2


def measure_least_rows(
    answers: Evaluations, settings: Mapping[str, FederatedSettings], seeds: int
) -> dict[str, Any]:
    """Train with every minimum on the first deals.

    Args:
        settings: Of federated training, by kind.
        seeds: Deals; no more than `MOST_SEEDS` are used, since the effect is large.
    """
    n_seeds = min(seeds, MOST_SEEDS)
    measured: dict[str, Any] = {"seeds": n_seeds}
    for kind, chosen in settings.items():
        runs = [_with_each_minimum(answers, chosen, seed) for seed in range(n_seeds)]
        measured[kind] = {
            str(least): figures_of([run[least] for run in runs]) for least in MINIMUMS
        }
    return measured


def _with_each_minimum(
    answers: Evaluations, settings: FederatedSettings, seed: int
) -> dict[int, Measured]:
    clients = split(answers, ALPHA, seed)
    rows = [client.rows for client in clients]
    bench = Bench.of(join(client.test for client in clients), seed)
    measured = {}
    for least in MINIMUMS:
        session = train_together(rows, settings, seed, least_rows=least)
        measured[least] = bench.measure(bench.outcomes(session.estimator))
    return measured
