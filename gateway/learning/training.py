"""From rows to a router's artefact: what `waypost train` and the learner have in common."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np

from gateway.artifacts.doubts import ANSWERS
from router_models.artifacts.artifact import dump
from router_models.artifacts.sealed_file import EncoderIdentity
from router_models.errors import InvalidEvaluations
from router_models.estimators.guard import GuardedEstimator
from router_models.evaluation.frontier import Figures, Judge, complete, route
from router_models.pricing import Prompts, in_usd, unit_of
from router_models.training.request_weight import train_on_requests
from router_models.training.settings import AUTO, kinds_of
from router_models.training.train import Trial, train, tune
from router_models.types import Evaluations


@dataclass(frozen=True, slots=True)
class TrainedRouter:
    """A router that was just made.

    Attributes:
        content: The artefact.
        encoder: Whose vectors it reads: of texts, or of whole requests.
        training: What the artefact says of how it was made.
        provenance: What it says of the rows.
    """

    content: bytes
    encoder: EncoderIdentity
    training: Mapping[str, Any]
    provenance: Mapping[str, int]


def train_router(
    rows: Evaluations,
    held_out: Evaluations,
    kind: str,
    seed: int,
    encoder: EncoderIdentity,
    *,
    reads_requests: bool,
    now: datetime,
) -> TrainedRouter:
    """Tune, train and pack a router.

    Args:
        rows: To learn from.
        held_out: To choose settings by.
        kind: One of `KINDS`, or `AUTO`.
        seed: The same gives the same router.
        encoder: Of the texts.
        reads_requests: The rows' vectors are of whole requests, not of texts alone.
        now: Time of the training.

    Raises:
        InvalidEvaluations: Nothing can be learned from the rows.
    """
    trials = tune(rows, held_out, kind, seed)
    best, read = trials[0], encoder
    if reads_requests:
        estimator, read, best = train_on_requests(rows, held_out, kind, seed, best, encoder)
    else:
        estimator = train(rows, held_out, kind, seed, best.settings)
    training = _training_figures(estimator, held_out, best, seed)
    training[ANSWERS] = _answers(rows, held_out)
    if kind == AUTO:
        training["compared"] = {_name(trial): trial.gain.value for trial in trials}
    provenance = _provenance(rows, held_out)
    content = dump(
        estimator,
        read,
        created_at=now,
        training=training,
        provenance=provenance,
        unit=unit_of(rows),
    )
    return TrainedRouter(content, read, training, provenance)


def measure(estimator: GuardedEstimator, evaluations: Evaluations) -> tuple[Figures, Judge]:
    """Sum up the estimator's frontier on rows that every model answered.

    Raises:
        InvalidEvaluations: There is no such row.
    """
    truth = complete(evaluations)
    columns = [estimator.models.index(model) for model in truth.models]
    prediction = estimator.predict(truth.embeddings)
    kept = type(prediction)(prediction.quality[:, columns], prediction.cost_usd[:, columns])
    kept = in_usd(kept, unit_of(evaluations), Prompts.of(truth))
    judge = Judge.of(truth)
    return judge.figures(route(kept, truth)), judge


def _training_figures(
    estimator: GuardedEstimator, held_out: Evaluations, best: Trial, seed: int
) -> dict[str, Any]:
    training: dict[str, Any] = {
        "kind": _name(best),
        "seed": seed,
        "settings": {kind: asdict(one) for kind, one in kinds_of(best.settings).items()},
        "validation_gain": best.gain.value,
        "validation_gain_interval": [best.gain.low, best.gain.high],
    }
    try:
        figures, judge = measure(estimator, held_out)
    except InvalidEvaluations:
        # A sparse log has no query that every model answered, hence no frontier.
        return training
    cost, quality = judge.single_models.points()
    single = judge.best_single()
    training["validation"] = asdict(figures)
    training["best_single_quality"] = float(quality[single])
    training["best_single_cost_usd"] = float(cost[single])
    return training


def _answers(*parts: Evaluations) -> dict[str, int]:
    """Count the graded answers of each model."""
    counted: Counter[str] = Counter()
    for part in parts:
        counts = np.isfinite(part.quality).sum(axis=0).tolist()
        counted.update(dict(zip(part.models, counts, strict=True)))
    return dict(counted)


def _name(trial: Trial) -> str:
    """Name what was tried by its kind; an average by both."""
    return " + ".join(kinds_of(trial.settings))


def _provenance(rows: Evaluations, held_out: Evaluations) -> dict[str, int]:
    return {
        "train_queries": len(rows.quality),
        "train_evaluations": int(np.isfinite(rows.quality).sum()),
        "validation_queries": len(held_out.quality),
        "validation_evaluations": int(np.isfinite(held_out.quality).sum()),
        "models": len(rows.models),
    }
