"""One organisation's private prompts and its copy of the model, as its Flower client sees them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from federation.errors import PlanRefused
from federation.reasoner.base import Base
from federation.reasoner.file_states import FileStates
from federation.reasoner.messages import ReasonerProfile
from federation.reasoner.plan import ReasonerPlan
from federation.reasoner.prompts import Prompt
from federation.reasoner.rollouts import LocalSampler
from federation.reasoner.trainer import Learner
from federation.site import Verdict


@dataclass(slots=True, eq=False)
class PromptSite:
    """A `federation.reasoner.client.ReasonerSite`.

    Attributes:
        name: Of the organisation.
        load: Brings the model into memory; called once, when a session first asks for it.
        collect: Reads the private prompts; called again when a session begins.
        least_prompts: No adapters made of fewer leave.
        folder: For states; holds nothing else.
        keep: Stores a sealed adapter with its signature as a candidate, and returns its version.
    """

    name: str
    load: Callable[[], Base]
    collect: Callable[[], Sequence[Prompt]]
    least_prompts: int
    folder: Path
    keep: Callable[[bytes, bytes | None], str]
    _base: Base | None = field(default=None, init=False)
    _session: str | None = field(default=None, init=False)
    _prompts: Sequence[Prompt] = field(default=(), init=False)

    def profile(self) -> ReasonerProfile:
        """Say what there is to learn from, and take the prompts of a new session.

        Raises:
            PlanRefused: There are too few prompts.
        """
        self._prompts = self._collected()
        name = self._loaded().name
        n_prompts = 1 << (len(self._prompts) - 1).bit_length()
        return ReasonerProfile(self.name, name.sha256, name.tokenizer_sha256, n_prompts)

    def prompts(self) -> Sequence[Prompt]:
        """Return the private prompts, as they were when the session began or this node started."""
        if not self._prompts:
            self._prompts = self._collected()
        return self._prompts

    def learner(self, plan: ReasonerPlan) -> Learner:
        """Make a learner that has not learned anything."""
        base = self._loaded()
        if base.adapted is None or self._session != plan.session:
            base.adapt(plan.settings, plan.seed)
            self._session = plan.session
        assert base.adapted is not None  # noqa: S101
        sampler = LocalSampler(base.adapted, base.tokenizer, plan.settings)
        seed = plan.seed_of(self.name)
        return Learner.begin(base.adapted, base.tokenizer, sampler, plan.settings, seed)

    def states(self, session: str) -> FileStates:
        """Return where this site stands in a session; others are forgotten."""
        return FileStates.of_session(self.folder, session)

    def receive(self, artifact: bytes, signature: bytes | None) -> Verdict:
        """Keep the adapter; whether it serves is for an operator to decide."""
        version = self.keep(artifact, signature)
        return Verdict("candidate", version, "kept; an operator decides whether to offer it")

    def _loaded(self) -> Base:
        if self._base is None:
            self._base = self.load()
        return self._base

    def _collected(self) -> Sequence[Prompt]:
        prompts = self.collect()
        if len(prompts) < self.least_prompts:
            raise PlanRefused(
                f"this site has {len(prompts)} private prompts; "
                "federation.node.reasoner.least_prompts is "
                f"{self.least_prompts}"
            )
        return prompts
