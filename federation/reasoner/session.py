"""One session from the first greeting to the published adapters, at the coordinator."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, ClassVar

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from federation.coordinator.checkpoint import Checkpoints
from federation.coordinator.nodes import NodeManager, Request, require_quorum
from federation.errors import CheckpointRejected, ReplyRejected
from federation.learning.aggregation import update_norm
from federation.protocol.protocol import Payload
from federation.protocol.report import SessionReport
from federation.protocol.updates import Form, Reply, cap_weights, read_reply
from federation.reasoner.aggregate import Adapters, aggregate
from federation.reasoner.figures import StepFigures
from federation.reasoner.messages import (
    ADAPTER,
    ADAPTERS,
    ANSWERS,
    FIGURES,
    HELLO,
    POOL,
    PROMPTS_USED,
    PUBLISH,
    ReasonerInstruction,
    ReasonerProfile,
    adapters_form,
    answers_form,
    lay_out_prompts,
    problem_of,
    read_profile,
)
from federation.reasoner.plan import Phase, ReasonerPlan
from federation.reasoner.progress import Progress, SiteFigures, dump, load
from federation.reasoner.prompts import Prompt, batch_of
from router_models.artifacts import adapter
from router_models.estimators.arrays import add_prefix, strip_prefix
from router_models.types import Arrays

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PhaseRequest(Request[ReasonerProfile]):
    """One phase of a reasoning model's session.

    Attributes:
        sent: The same to all sites.
        answers: Each site's answers to the last public prompts; a site is sent those of the others.
        form: Of a reply.
        current: Adapters that the round began with.
    """

    plan: ReasonerPlan
    phase: Phase
    sent: Payload
    answers: Mapping[str, Payload]
    form: Form
    current: Arrays

    @property
    def name(self) -> str:
        """Flower's message type."""
        return ADAPTERS if self.ends_round else ANSWERS

    @property
    def round(self) -> int:
        """Number of the phase."""
        return self.phase.number

    @property
    def ends_round(self) -> bool:
        """Whether adapters come back."""
        return self.phase.answered is None

    def content_for(self, site: ReasonerProfile) -> RecordDict:
        """Return the instruction for one site, with other sites' answers but not their names."""
        others = [self.answers[name] for name in sorted(self.answers) if name != site.name]
        pool: Payload = {}
        for number, payload in enumerate(others):
            pool |= add_prefix(f"{POOL}{number}/", payload)
        return ReasonerInstruction(self.plan, self.round, {**self.sent, **pool}).to_content()

    def read(self, site: ReasonerProfile, message: Message) -> Payload:  # noqa: ARG002
        """Unpack an answer.

        Raises:
            ReplyRejected: It is not what was asked for.
        """
        return read_reply(message, self.form)

    def update_norm(self, payload: Payload) -> float:
        """Return the norm of the adapters' update; answers to prompts have none."""
        return update_norm(self.current, strip_prefix(ADAPTER, payload)) if self.ends_round else 0.0


@dataclass(slots=True)
class ReasonerFleet(NodeManager[ReasonerPlan, ReasonerProfile]):
    """The nodes of a session."""

    greeting: ClassVar[str] = HELLO
    publication: ClassVar[str] = PUBLISH

    def pack(self, sent: Payload) -> RecordDict:
        """Pack an instruction that belongs to no phase."""
        return ReasonerInstruction(self.plan, sent=sent).to_content()

    def check_profile(self, reply: Message) -> ReasonerProfile:
        """Read a site's profile, and check it against the plan.

        Raises:
            ReplyRejected: It is no profile, or does not fit the plan.
        """
        profile = read_profile(reply)
        problem = problem_of(profile, self.plan.base)
        if problem is not None:
            raise ReplyRejected(problem)
        return profile


@dataclass(frozen=True, slots=True, eq=False)
class ReasonerResult:
    """The result of a session.

    Attributes:
        weights: Adapters by name.
        artifact: The same, as they were published.
        progress: The final one, with the figures of every step.
    """

    plan: ReasonerPlan
    weights: Arrays
    artifact: bytes
    progress: Progress
    report: SessionReport


@dataclass(frozen=True, slots=True, eq=False)
class ReasonerSession:
    """Runs one session on a grid.

    Attributes:
        public: Prompts that all sites answer; none are needed where the plan has no public steps.
        initial: Adapters that the first round begins with.
        checkpoints: Where progress is kept; a session begins with what is there.
        clock: Seconds, for waiting and for durations.
        sleep: Waits that many seconds.
        on_progress: Called with the progress after every phase.
        on_report: Called with the report after every phase, and at the end, however it ends.
        sign: Returns the signature that the adapters are published with; None publishes without.
    """

    grid: Grid
    plan: ReasonerPlan
    public: Sequence[Prompt]
    initial: Arrays
    checkpoints: Checkpoints
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    on_progress: Callable[[Progress], None] = lambda _: None
    on_report: Callable[[SessionReport], None] = lambda _: None
    sign: Callable[[bytes], bytes | None] = lambda _: None

    def run(self, created_at: datetime) -> ReasonerResult:
        """Tune and publish; an earlier session of the same plan that was cut off goes on.

        Raises:
            QuorumMissing: Too few sites connected, or answered well, in time. The checkpoint stays.
            ValueError: The plan has public steps, and there is no public prompt.
        """
        if self.plan.settings.public and not self.public:
            raise ValueError("public_prompts: required unless training has public = false")
        progress = self._resume()
        fleet = ReasonerFleet(self.grid, self.plan, self.clock)
        try:
            return self._tune(fleet, progress, created_at)
        finally:
            self.on_report(fleet.report)

    def _tune(
        self, fleet: ReasonerFleet, progress: Progress, created_at: datetime
    ) -> ReasonerResult:
        fleet.wait_for_quorum(self.sleep)
        for phase in self.plan.phases()[progress.phase :]:
            progress = self._advance(fleet, phase, progress)
            self.checkpoints.save(dump(self.plan, progress))
            self.on_progress(progress)
            self.on_report(fleet.report)
        artifact = _artifact(self.plan, progress, created_at)
        fleet.publish(artifact, self.sign(artifact))
        self.checkpoints.clear()
        return ReasonerResult(self.plan, progress.weights, artifact, progress, fleet.report)

    def _resume(self) -> Progress:
        """Load the checkpoint of an interrupted session of the same plan, or start anew."""
        data = self.checkpoints.load()
        if data is None:
            return Progress(self.initial)
        try:
            progress = load(data, self.plan)
        except CheckpointRejected as error:
            logger.warning("the tuning starts over: %s", error)
            return Progress(self.initial)
        logger.info("the tuning resumes after phase %d", progress.phase)
        return progress

    def _advance(self, fleet: ReasonerFleet, phase: Phase, progress: Progress) -> Progress:
        """Run one phase, with the nodes that joined since the last one too.

        Raises:
            QuorumMissing: Too few answered well.
        """
        fleet.admit_new_nodes()
        request = self._request(fleet, phase, progress)
        good = fleet.send_and_collect(request)
        require_quorum(self.plan, len(good), fleet.report)
        progress = replace(progress, phase=phase.number)
        if not request.ends_round:
            return replace(progress, answers={reply.site: reply.payload for reply in good})
        return replace(
            progress,
            weights=_aggregate(self.plan, phase.round, progress.weights, good),
            answers={},
            figures={**progress.figures, phase.round: _figures(good)},
        )

    def _request(self, fleet: ReasonerFleet, phase: Phase, progress: Progress) -> PhaseRequest:
        plan, size = self.plan, self.plan.settings.prompts_per_step
        batches = {
            step.number: batch_of(self.public, size, step.turn, plan.seed)
            for step in phase.public_steps
        }
        weights = add_prefix(ADAPTER, progress.weights) if phase.begins_round else {}
        return PhaseRequest(
            plan=plan,
            phase=phase,
            sent={**weights, **lay_out_prompts(batches)},
            answers={} if phase.begins_round else progress.answers,
            form=_form(plan, phase, progress.weights),
            current=progress.weights,
            selected=fleet.connected(),
            started_s=self.clock(),
        )


def _form(plan: ReasonerPlan, phase: Phase, current: Arrays) -> Form:
    if phase.answered is not None:
        return answers_form(plan)
    return adapters_form(plan, current, len(StepFigures._fields))


def _aggregate(
    plan: ReasonerPlan, round_: int, current: Arrays, good: Sequence[Reply]
) -> dict[str, NDArray[Any]]:
    """Put adapters together; whoever learned from no prompt does not count."""
    used = np.array([reply.payload[PROMPTS_USED][0] for reply in good])
    clients = [
        Adapters(strip_prefix(ADAPTER, reply.payload), float(count))
        for reply, count in zip(good, cap_weights(used, plan.largest_share), strict=True)
        if count > 0
    ]
    return aggregate(plan.settings.aggregation, round_, dict(current), clients)


def _figures(good: Sequence[Reply]) -> SiteFigures:
    return {
        reply.site: tuple(StepFigures(*step) for step in reply.payload[FIGURES].tolist())
        for reply in good
    }


def _artifact(plan: ReasonerPlan, progress: Progress, created_at: datetime) -> bytes:
    """Seal the adapters; sites are not named."""
    steps = [
        step for of_sites in progress.figures.values() for own in of_sites.values() for step in own
    ]
    rewards = {
        str(round_): float(np.mean([step.reward for own in of_sites.values() for step in own]))
        for round_, of_sites in progress.figures.items()
    }
    return adapter.dump(
        dict(progress.weights),
        adapter.BaseModel(plan.base.id, plan.base.sha256),
        alpha=plan.settings.lora_alpha,
        created_at=created_at,
        training={
            "federated": True,
            "settings": asdict(plan.settings),
            "seed": plan.seed,
            "rounds": plan.rounds,
            "rewards": rewards,
            "tokens_generated": sum(step.tokens_generated for step in steps),
            "tokens_swapped": sum(step.tokens_swapped for step in steps),
        },
        provenance={
            "sites": len(progress.sites),
            "prompts": int(sum(step.prompts for step in steps)),
        },
    )
