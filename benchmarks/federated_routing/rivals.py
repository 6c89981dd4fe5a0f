"""ParetoBandit (PyPI, Apache-2.0), where it is installed: a LinUCB router that learns from a log.

`pip install --no-deps paretobandit` is enough. It takes pooled rows, so it stands beside
centralised training; it replays the log in random order and then chooses without exploring.
"""

import importlib
import importlib.util
from typing import Any, Final

import numpy as np

from benchmarks.federated_routing.protocol import Rows
from router_models.estimators.arrays import Scaler
from router_models.evaluation.frontier import Outcomes, route
from router_models.types import Evaluations, Float32, Prediction

PACKAGE: Final = "pareto_bandit"
COMPONENTS: Final = 25
"""Of its own feature map: 25 whitened principal components and a constant."""

REGULARISATIONS: Final = tuple(float(each) for each in np.geomspace(0.1, 300.0, 8))
"""Tried on validation rows, as many as the other arms try."""

PENALTIES: Final = np.geomspace(1e-4, 1e2, 100)
"""What it takes off the expected quality for a cost of 1 on its logarithmic scale from 0 to 1."""


def is_installed() -> bool:
    """Whether there is a ParetoBandit to measure."""
    return importlib.util.find_spec(PACKAGE) is not None


def pareto_bandit(rows: Rows, test: Evaluations, seed: int) -> Outcomes:
    """Replay pooled train rows, then choose for the test rows at each penalty."""
    bandit = importlib.import_module(f"{PACKAGE}.policy").DisjointLinUCBPolicy
    normalize = importlib.import_module(f"{PACKAGE}.costs").log_normalize_cost
    features = _feature_map(rows.train)
    best, best_loss = None, np.inf
    for regularisation in REGULARISATIONS:
        learned = _replay(bandit, rows.train, features(rows.train), regularisation, seed)
        expected = features(rows.validation) @ learned
        answered = np.isfinite(rows.validation.quality)
        loss = float(((expected - rows.validation.quality)[answered] ** 2).mean())
        if loss < best_loss:
            best, best_loss = learned, loss
    cost = np.nanmean(rows.train.cost_usd, axis=0)
    cost = np.where(np.isfinite(cost), cost, np.nanmax(cost))
    scaled = [normalize(float(each), float(cost.min()), float(cost.max())) for each in cost]
    expected = (features(test) @ best).astype(np.float32)
    penalties = np.broadcast_to(np.array(scaled, np.float32), expected.shape)
    return route(Prediction(expected, penalties), test, PENALTIES)


def _feature_map(train: Evaluations) -> Any:
    scaler = Scaler.fit(train.embeddings)
    _, deviation, directions = np.linalg.svd(scaler.apply(train.embeddings), full_matrices=False)
    whitening = directions[:COMPONENTS].T / (deviation[:COMPONENTS] / np.sqrt(len(train.quality)))

    def features(rows: Evaluations) -> Float32:
        whitened = scaler.apply(rows.embeddings) @ whitening
        return np.concatenate([whitened, np.ones((len(whitened), 1))], axis=1).astype(np.float32)

    return features


def _replay(
    bandit: Any, train: Evaluations, features: Float32, regularisation: float, seed: int
) -> Float32:
    """Weights of each model's expected quality; shape ``(n_features, n_models)``."""
    names = list(train.models)
    policy = bandit(names, dim=features.shape[1], init_lambda=regularisation, seed=seed)
    for row in np.random.default_rng(seed).permutation(len(features)):
        for column in np.flatnonzero(np.isfinite(train.quality[row])):
            reward = float(train.quality[row, column])
            policy.update(names[column], features[row].astype(np.float64), reward)
    return np.stack([policy.theta[name] for name in names], axis=1)
