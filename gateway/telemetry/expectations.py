"""What the router expected against what came: cost, quality, and the best single model instead."""

from dataclasses import dataclass

from budget.ledger.amounts import NUSD_PER_USD
from gateway.telemetry.series import VERSION, Counts
from gateway.types import CandidateRecord, TurnRecord

BUCKETS = 10
"""Of predicted quality, 0 to 1."""
BUCKET = "bucket"


class Expectations:
    """Sums by which an operator sees whether the router's predictions can be trusted.

    The best single model of a turn is, of the models that could have served it, the one whose
    predicted quality was highest on average over all routed turns of this process. What it would
    have cost is the router's own prediction, as is what the served one is compared at: their
    difference is what routing saved, if the predictions of cost hold, which the observed cost
    beside them shows.
    """

    def __init__(self) -> None:
        model, bucket = ("model", VERSION), (VERSION, BUCKET)
        self._predicted_cost = Counts(
            "waypost_router_predicted_cost_usd",
            "USD that the router predicted for routed answers.",
            model,
        )
        self._observed_cost = Counts(
            "waypost_router_observed_cost_usd", "USD charged for the same answers.", model
        )
        self._single_cost = Counts(
            "waypost_router_best_single_cost_usd",
            "USD predicted for the same answers if the best single model had given all of them.",
            (VERSION,),
        )
        self._graded = Counts(
            "waypost_router_graded_answers",
            "Graded answers by predicted quality: a bucket per tenth, named by its lower bound.",
            bucket,
        )
        self._predicted_quality = Counts(
            "waypost_router_graded_predicted_quality",
            "Sum of the predicted quality of these answers.",
            bucket,
        )
        self._observed_quality = Counts(
            "waypost_router_graded_observed_quality", "Sum of the grades of these answers.", bucket
        )
        self.families = (
            self._predicted_cost,
            self._observed_cost,
            self._single_cost,
            self._graded,
            self._predicted_quality,
            self._observed_quality,
        )
        self._records: dict[str, _Predicted] = {}

    def compare_cost(self, turn: TurnRecord) -> None:
        """Add a routed and answered turn, unless the router knew nothing of what served."""
        best = self._best_single(turn.candidates)
        served = turn.expected
        if best is None or served is None or turn.usage is None:
            return
        version = turn.router_version or ""
        labels = (served.model, version)
        self._predicted_cost.add(labels, served.cost_usd or 0.0)
        self._observed_cost.add(labels, turn.cost_nusd / NUSD_PER_USD)
        self._single_cost.add((version,), best.cost_usd or 0.0)

    def compare_quality(self, version: str, predicted: float, observed: float) -> None:
        """Add a graded answer to the bucket of what was predicted for it."""
        place = min(max(int(predicted * BUCKETS), 0), BUCKETS - 1)
        labels = (version, str(place / BUCKETS))
        self._graded.add(labels)
        self._predicted_quality.add(labels, min(max(predicted, 0.0), 1.0))
        self._observed_quality.add(labels, observed)

    def _best_single(self, candidates: tuple[CandidateRecord, ...]) -> CandidateRecord | None:
        """Take note of the turn's predictions and return its best single model."""
        records = self._records
        best, highest = None, -1.0
        for candidate in candidates:
            quality = candidate.quality
            if quality is None:
                continue
            record = records.get(candidate.model)
            if record is None:
                record = records[candidate.model] = _Predicted()
            record.total += quality
            record.turns += 1
            if candidate.is_eligible and record.total > highest * record.turns:
                best, highest = candidate, record.total / record.turns
        return best


@dataclass(slots=True)
class _Predicted:
    """The qualities predicted for one model."""

    total: float = 0.0
    turns: int = 0
