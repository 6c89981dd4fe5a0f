"""Reports on a router that knows the answers, beside one that guesses."""

import numpy as np

from router_models.evaluation.report import Contender, Report, evaluate
from router_models.types import Evaluations, Prediction
from tests.fakes.evaluations import made_up

TRUTH = made_up(300)


def contender(truth: Evaluations, seed: int | None = None) -> Contender:
    quality = truth.quality if seed is None else made_up(len(truth.quality), seed=seed).quality
    return Contender.of(
        Prediction(np.nan_to_num(quality, nan=0.5), np.nan_to_num(truth.cost_usd, nan=0.001))
    )


def report(truth: Evaluations = TRUTH, draws: int = 40, **options) -> Report:
    return evaluate(
        {"knows": contender(truth)},
        {"guesses": contender(truth, 9)},
        truth,
        np.full(len(truth.models), 0.5, np.float32),
        draws=draws,
        rng=np.random.default_rng(0),
        **options,
    )
