"""One set at one alpha: every deal trained and compared, with settings tuned on one deal."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from benchmarks.federated_routing import rivals
from benchmarks.federated_routing.arms import ARMS, FEDERATED, KINDS, pooled, tune
from benchmarks.federated_routing.compare import Choice, Deal, compare
from benchmarks.federated_routing.protocol import Client, join, split
from benchmarks.federated_routing.summary import summarise
from federation.learning.settings import KINDS as FEDERATED_KINDS
from router_models.evaluation.frontier import Outcomes
from router_models.training.settings import KINDS as OTHER_KINDS
from router_models.types import Evaluations


def tune_all(answers: Evaluations, alpha: float) -> Choice:
    """Choose settings for every kind and arm on the first deal's validation rows."""
    rows = [client.rows for client in split(answers, alpha, 0)]
    return {kind: {arm: tune(arm, kind, rows, 0) for arm in ARMS} for kind in KINDS}


def read_choice(settings: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Choice:
    """Read back the settings that `measure_alpha` wrote."""
    return {
        kind: {
            arm: (FEDERATED_KINDS if arm == FEDERATED else OTHER_KINDS)[kind](**fields)
            for arm, fields in arms.items()
        }
        for kind, arms in settings.items()
    }


def measure_alpha(answers: Evaluations, alpha: float, choice: Choice, seeds: int) -> dict[str, Any]:
    """Compare all arms on every deal."""
    first = split(answers, alpha, 0)
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
