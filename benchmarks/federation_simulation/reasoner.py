"""Whole sessions in this process: the same code as in a deployment, without its processes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from benchmarks.federation_simulation.in_process import Exchanged, Fault, InProcessGrid
from benchmarks.federation_simulation.simulation import LONG_AGO, MemoryCheckpoints
from federation.coordinator.checkpoint import Checkpoints
from federation.node.client_app import build_reasoner_app
from federation.reasoner.client import Learner, ReasonerSite
from federation.reasoner.messages import ReasonerProfile
from federation.reasoner.plan import BaseName, ReasonerPlan
from federation.reasoner.progress import Progress
from federation.reasoner.prompts import Prompt
from federation.reasoner.session import ReasonerResult, ReasonerSession
from federation.reasoner.states import MemoryStates, States
from federation.site import Verdict
from router_models.artifacts import adapter
from router_models.types import Arrays


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedSite:
    """A site made of a list of prompts; it keeps every adapter as a candidate.

    Attributes:
        new_learner: Makes a learner for a session and with a seed. Sites may share one model: what
            each has learned is put into it whenever the site has its turn.
    """

    name: str
    base: BaseName
    private: Sequence[Prompt]
    new_learner: Callable[[ReasonerPlan, int], Learner]
    kept: States = field(default_factory=MemoryStates)

    def profile(self) -> ReasonerProfile:
        """Say what there is to learn from."""
        n_prompts = 1 << max(len(self.private) - 1, 0).bit_length()
        return ReasonerProfile(self.name, self.base.sha256, self.base.tokenizer_sha256, n_prompts)

    def prompts(self) -> Sequence[Prompt]:
        """Return the private prompts."""
        return self.private

    def learner(self, plan: ReasonerPlan) -> Learner:
        """Make a learner with this site's seed."""
        return self.new_learner(plan, plan.seed_of(self.name))

    def states(self, session: str) -> States:  # noqa: ARG002
        """Return what was kept; a simulated site takes part in one session."""
        return self.kept

    def receive(self, artifact: bytes, signature: bytes | None) -> Verdict:  # noqa: ARG002
        """Judge nothing."""
        return Verdict("candidate", adapter.load(artifact).version, "kept by a simulation")


def simulate(
    sites: Sequence[ReasonerSite],
    plan: ReasonerPlan,
    public: Sequence[Prompt],
    initial: Arrays,
    *,
    faults: Mapping[int, Fault] | None = None,
    checkpoints: Checkpoints | None = None,
    traffic: list[Exchanged] | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    created_at: datetime = LONG_AGO,
) -> ReasonerResult:
    """Run one session over these sites; the same plan and sites give the same bits.

    Args:
        sites: Node 1 is the first of them.
        plan: Of the session.
        public: Prompts that all sites answer.
        initial: Adapters that the first round begins with.
        faults: What befalls the replies of a node.
        checkpoints: Where to go on, and where to keep progress.
        traffic: A list that gets every message.
        on_progress: Called with the progress after every phase.
        created_at: Date of the adapters.

    Raises:
        QuorumMissing: Too few sites answered well in some phase.
    """
    nodes = {node: build_reasoner_app(site) for node, site in enumerate(sites, start=1)}
    grid = InProcessGrid(nodes, faults or {}, traffic)
    session = ReasonerSession(
        grid,
        plan,
        public,
        initial,
        checkpoints or MemoryCheckpoints(),
        grid.clock,
        grid.sleep,
        on_progress,
    )
    return session.run(created_at)
