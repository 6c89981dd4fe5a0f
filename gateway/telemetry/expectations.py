"""What the router expected against what came: cost, quality, and the best single model instead."""

from budget.ledger.amounts import NUSD_PER_USD
from gateway.candidate_records import CandidateRecord, Candidates
from gateway.telemetry.series import VERSION, Counts
from gateway.types import TurnRecord

BUCKETS = 10
"""Of predicted quality, 0 to 1."""
BUCKET = "bucket"
ALL_TURNS, SOME_TURNS = 100, 16
"""The first turns are all read to order models by predicted quality, then each of so many."""


class Expectations:
    """Sums by which an operator sees whether the router's predictions can be trusted.

    The best single model of a turn is, of the models that could have served it, the one whose
    predicted quality was highest on average over the routed turns of this process. What it would
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
        self._predicted: dict[str, tuple[float, int]] = {}
        self._best_first: list[str] = []
        self._turns = 0

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

    def _best_single(self, candidates: Candidates) -> CandidateRecord | None:
        """Return the turn's best single model: of those that can serve, the first in their order.

        The order changes ever more slowly, so that all turns until `ALL_TURNS` and a share of the
        later ones are enough to know it; an average over all models in each turn would not be
        cheap where there are hundreds.
        """
        if self._turns < ALL_TURNS or self._turns % SOME_TURNS == 0:
            self._take_note(candidates)
        self._turns += 1
        models, qualities = candidates.column("model"), candidates.column("quality")
        can_answer = candidates.column("is_eligible")
        for model in self._best_first:
            if model in models:
                place = models.index(model)
                if can_answer[place] and qualities[place] is not None:
                    return candidates[place]
        return None

    def _take_note(self, candidates: Candidates) -> None:
        figures = zip(candidates.column("model"), candidates.column("quality"), strict=True)
        for model, quality in figures:
            if quality is not None:
                total, turns = self._predicted.get(model, (0.0, 0))
                self._predicted[model] = total + quality, turns + 1
        means = {model: total / turns for model, (total, turns) in self._predicted.items()}
        self._best_first = sorted(means, key=means.__getitem__, reverse=True)
