"""Models and clients that join a finished router, against training it anew with them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from benchmarks.federated_routing.compare import Bench
from benchmarks.federated_routing.federated import grow, train_together
from benchmarks.federated_routing.measure import Measured, mean_of
from benchmarks.federated_routing.protocol import (
    Client,
    Rows,
    join,
    keep_answers,
    split,
    with_models,
)
from benchmarks.federated_routing.summary import figures_of
from federation.learning.settings import FederatedSettings
from federation.protocol.joining import CLIENTS_JOIN, MODELS_JOIN
from router_models.evaluation.frontier import route
from router_models.types import Evaluations

ALPHA: Final = 0.6
JOINING: Final = 3
CALIBRATION_SHARE: Final = 0.1
MOST_SEEDS: Final = 3
"""Deals; every one takes eight sessions."""


def measure_growth(
    answers: Evaluations, settings: Mapping[str, FederatedSettings], seeds: int
) -> dict[str, Any]:
    """Let three models join, then three clients, on every deal.

    Args:
        settings: Of federated training, by kind.
        seeds: Deals; no more than `MOST_SEEDS` are used.
    """
    seeds = min(seeds, MOST_SEEDS)
    measured: dict[str, Any] = {"seeds": seeds}
    for kind, chosen in settings.items():
        models = [_join_models(answers, chosen, seed) for seed in range(seeds)]
        clients = [_join_clients(answers, chosen, seed) for seed in range(seeds)]
        measured[kind] = {"models": _summary(models), "clients": _summary(clients)}
    return measured


def _summary(runs: Sequence[Mapping[str, Measured]]) -> dict[str, Any]:
    pairs = [(a, b) for a in runs[0] for b in runs[0] if a.startswith("grown") and a != b]
    return {
        **{label: figures_of([run[label] for run in runs]) for label in runs[0]},
        **{
            f"{a} - {b}": figures_of([run[a] - run[b] for run in runs])
            for a, b in pairs
            if a.removeprefix("grown") == b.removeprefix("before").removeprefix("retrained")
        },
    }


def _join_models(
    answers: Evaluations, settings: FederatedSettings, seed: int
) -> dict[str, Measured]:
    order = np.random.default_rng([seed, 7]).permutation(len(answers.models))
    old, new = np.sort(order[JOINING:]), np.sort(order[:JOINING])
    clients = split(with_models(answers, np.concatenate([old, new])), ALPHA, seed)
    n_old = len(old)
    before = split(with_models(answers, old), ALPHA, seed)
    base = train_together([c.rows for c in before], settings, seed)
    calibration = [_calibration(client, n_old, seed) for client in clients]
    grown = grow(base, [_without_validation(own) for own in calibration], settings, MODELS_JOIN)
    everything = [
        Rows(_beside(small.rows.train, bought, whole), _padded(small.rows.validation, whole))
        for small, bought, whole in zip(before, calibration, clients, strict=True)
    ]
    anew = train_together(everything, settings, seed).estimator
    bench = Bench.of(join(client.test for client in clients), seed)
    of_old = with_models(bench.rows, np.arange(n_old))
    chosen_before = route(base.estimator.predict(bench.rows.embeddings), of_old)
    return {
        "before": bench.measure(chosen_before),
        "grown": bench.measure(bench.outcomes(grown)),
        "retrained": bench.measure(bench.outcomes(anew)),
    }


def _calibration(client: Client, n_old: int, seed: int) -> Evaluations:
    """What new models answer to a tenth of a client's train queries; NaN for all others."""
    answers = with_models(client.train_answers, np.arange(n_old, len(client.train_answers.models)))
    n_rows = len(answers.quality)
    bought = np.random.default_rng([seed, 8]).permutation(n_rows) < CALIBRATION_SHARE * n_rows
    return keep_answers(answers, np.repeat(bought[:, None], len(answers.models), axis=1))


def _beside(old: Evaluations, new: Evaluations, whole: Client) -> Evaluations:
    return replace(
        old,
        quality=np.concatenate([old.quality, new.quality], axis=1),
        cost_usd=np.concatenate([old.cost_usd, new.cost_usd], axis=1),
        models=whole.test.models,
    )


def _padded(old: Evaluations, whole: Client) -> Evaluations:
    missing = np.full((len(old.quality), JOINING), np.nan, np.float32)
    nothing = replace(old, quality=missing, cost_usd=missing)
    return _beside(old, nothing, whole)


def _without_validation(calibration: Evaluations) -> Rows:
    """All calibration rows are trained on: the last round counts."""
    nothing = np.full_like(calibration.quality, np.nan)
    return Rows(calibration, replace(calibration, quality=nothing, cost_usd=nothing))


def _join_clients(
    answers: Evaluations, settings: FederatedSettings, seed: int
) -> dict[str, Measured]:
    clients = split(answers, ALPHA, seed)
    rows = [client.rows for client in clients]
    there, joining = rows[:-JOINING], rows[-JOINING:]
    before = train_together(there, settings, seed)
    routers = {
        "before": before.estimator,
        "grown": grow(before, joining, settings, CLIENTS_JOIN),
        "retrained": train_together(rows, settings, seed).estimator,
    }
    everybody = Bench.of(join(client.test for client in clients), seed)
    newcomers = [Bench.of(client.test, seed) for client in clients[-JOINING:]]
    measured = {}
    for label, router in routers.items():
        measured[label] = everybody.measure(everybody.outcomes(router))
        own = [bench.measure(bench.outcomes(router)) for bench in newcomers]
        measured[f"{label}, newcomers' rows"] = mean_of(own)
    return measured
