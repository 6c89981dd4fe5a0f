"""One set at one alpha: settings tuned on the first deal, then every deal trained and compared."""

from dataclasses import asdict
from typing import Any

from benchmarks.federated_routing import rivals
from benchmarks.federated_routing.arms import ARMS, KINDS, pooled, tune
from benchmarks.federated_routing.compare import Choice, Deal, compare
from benchmarks.federated_routing.protocol import Client, join, split
from benchmarks.federated_routing.summary import summarise
from router_models.frontier import Outcomes
from router_models.types import Evaluations


def measure_alpha(answers: Evaluations, alpha: float, seeds: int) -> dict[str, Any]:
    """Tune on the first deal's validation rows, then compare on every deal."""
    first = split(answers, alpha, 0)
    rows = [client.rows for client in first]
    choice = {kind: {arm: tune(arm, kind, rows, 0) for arm in ARMS} for kind in KINDS}
    deals = [_deal(answers, alpha, seed, choice) for seed in range(seeds)]
    return {
        "queries": len(answers.quality),
        "models": len(answers.models),
        "seeds": seeds,
        "train_rows": [len(client.rows.train.quality) for client in first],
        "test_rows": [len(client.test.quality) for client in first],
        "settings": {k: {arm: asdict(s) for arm, s in c.items()} for k, c in choice.items()},
        **summarise(deals),
    }


def _deal(answers: Evaluations, alpha: float, seed: int, choice: Choice) -> Deal:
    clients = split(answers, alpha, seed)
    return compare(clients, choice, seed, _rivals(clients, seed))


def _rivals(clients: list[Client], seed: int) -> dict[str, Outcomes]:
    if not rivals.is_installed():
        return {}
    test = join(client.test for client in clients)
    everything = pooled([client.rows for client in clients])
    return {"ParetoBandit": rivals.pareto_bandit(everything, test, seed)}
