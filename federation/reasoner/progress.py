"""How far a reasoner's session has come: all that it needs to go on from here."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from federation.coordinator import checkpoint
from federation.errors import CheckpointRejected, PlanRefused
from federation.protocol.protocol import Payload
from federation.reasoner.figures import StepFigures
from federation.reasoner.messages import ADAPTER
from federation.reasoner.plan import ReasonerPlan
from router_models.estimators.arrays import add_prefix, strip_prefix
from router_models.types import Arrays

SiteFigures = Mapping[str, tuple[StepFigures, ...]]
"""Figures of one round's steps by site."""


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """How far a session has come.

    Attributes:
        weights: Adapters by name, of the last aggregation.
        phase: Finished last; 0 before the first.
        answers: Of each site to the public prompts asked last; empty once a round is over.
        figures: By round, of the sites whose adapters counted.
    """

    weights: Arrays
    phase: int = 0
    answers: Mapping[str, Payload] = field(default_factory=dict)
    figures: Mapping[int, SiteFigures] = field(default_factory=dict)

    @property
    def sites(self) -> frozenset[str]:
        """Names of those that had a part in the adapters."""
        return frozenset(site for of_sites in self.figures.values() for site in of_sites)


def dump(plan: ReasonerPlan, progress: Progress) -> bytes:
    """Write what it takes to go on."""
    answering = sorted(progress.answers)
    head = {
        "plan": plan.to_json(),
        "phase": progress.phase,
        "answering": answering,
        "figures": {round_: dict(of_sites) for round_, of_sites in progress.figures.items()},
    }
    arrays = add_prefix(ADAPTER, progress.weights)
    for place, site in enumerate(answering):
        arrays |= add_prefix(f"{place}/", progress.answers[site])
    return checkpoint.write(head, arrays)


def load(data: bytes, plan: ReasonerPlan) -> Progress:
    """Read `dump`.

    Raises:
        CheckpointRejected: The bytes are damaged, or `plan` is another than theirs.
    """
    head, arrays = checkpoint.read(data)
    try:
        found = ReasonerPlan.from_json(head["plan"])
        figures = {
            int(round_): {
                site: tuple(StepFigures(*step) for step in steps)
                for site, steps in of_sites.items()
            }
            for round_, of_sites in head["figures"].items()
        }
        phase, answering = int(head["phase"]), list(head["answering"])
    except (PlanRefused, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointRejected("the checkpoint is damaged") from error
    if found != plan:
        raise CheckpointRejected("the checkpoint was made with another plan")
    answers = {site: strip_prefix(f"{place}/", arrays) for place, site in enumerate(answering)}
    return Progress(strip_prefix(ADAPTER, arrays), phase, answers, figures)
