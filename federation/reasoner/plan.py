"""One session that tunes a reasoning model, as everybody who takes part in it knows it."""

import json
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import pairwise

from federation.errors import PlanRefused
from federation.protocol.session_plan import SessionPlan
from federation.reasoner.settings import ReasonerSettings


@dataclass(frozen=True, slots=True)
class BaseName:
    """Which model every site tunes.

    Attributes:
        id: As on the hub, for people.
        sha256: Of its weights.
        tokenizer_sha256: Of what must be the same for tokens to mean the same.
        n_tokens: Of its vocabulary.
    """

    id: str
    sha256: str
    tokenizer_sha256: str
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step of a session.

    Attributes:
        number: Counted from 1 over the whole session.
        is_public: On public prompts, the same at every site.
        turn: Counted from 0 over the steps of its kind.
    """

    number: int
    is_public: bool
    turn: int


@dataclass(frozen=True, slots=True)
class Phase:
    """What a site does between two messages.

    A round begins with the session's adapters and ends with the site's. In between the sites stop
    wherever a public step needs what the others answered.

    Attributes:
        number: Counted from 1 over the whole session.
        round: Counted from 1.
        steps: Taken in this phase; where it does not begin the round, the first is public and
            learns from the others' answers.
        answered: The public step whose prompts are answered at the end; None where the round ends.
        begins_round: Whether the session's adapters come with it.
    """

    number: int
    round: int
    steps: tuple[Step, ...]
    answered: Step | None
    begins_round: bool

    @property
    def public_steps(self) -> tuple[Step, ...]:
        """Steps whose prompts come with it."""
        own = tuple(step for step in self.steps if step.is_public)
        return own if self.answered is None else (*own, self.answered)


@dataclass(frozen=True, slots=True)
class ReasonerPlan(SessionPlan):
    """The plan of one reasoning model's session (PubSwap, arXiv 2604.12160).

    Attributes:
        session: Another one for every session, so that no node takes an old state for its own.
        base: What is tuned.
        settings: How.
        rounds: Aggregations.
    """

    session: str
    base: BaseName
    settings: ReasonerSettings
    rounds: int
    timeout_s: float = field(default=3600.0, kw_only=True)
    greeting_s: float = field(default=300.0, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse what no session can follow.

        Raises:
            ValueError: A value is out of range.
        """
        if min(self.rounds, self.quorum, self.base.n_tokens) < 1:
            raise ValueError("rounds, quorum and n_tokens must be at least 1")
        if min(self.timeout_s, self.greeting_s) <= 0:
            raise ValueError("timeout_s and greeting_s must be above 0")
        if not 0 < self.largest_share <= 1 or self.longest_update <= 1:
            raise ValueError("largest_share must be above 0 and at most 1, longest_update above 1")

    @property
    def swaps(self) -> bool:
        """Whether answers to public prompts go from site to site."""
        return self.settings.public and self.settings.swap != "none"

    def steps_of(self, round_: int) -> tuple[Step, ...]:
        """List the steps of a round."""
        per_round = self.settings.steps_per_round
        public = [self.settings.is_public(step) for step in range(1, per_round + 1)]
        before = (round_ - 1) * per_round
        steps = []
        for place, is_public in enumerate(public):
            turn = (round_ - 1) * public.count(is_public) + public[:place].count(is_public)
            steps.append(Step(before + place + 1, is_public, turn))
        return tuple(steps)

    def phases(self) -> tuple[Phase, ...]:
        """List what sites are asked, in order."""
        phases: list[Phase] = []
        for round_ in range(1, self.rounds + 1):
            steps = self.steps_of(round_)
            stops = [place for place, step in enumerate(steps) if step.is_public and self.swaps]
            for first, last in pairwise((0, *stops, len(steps))):
                answered = steps[last] if last < len(steps) else None
                begins = not phases or phases[-1].answered is None
                phase = Phase(len(phases) + 1, round_, steps[first:last], answered, begins)
                phases.append(phase)
        return tuple(phases)

    def seed_of(self, site: str) -> int:
        """Return a site's own seed, so that no two sites draw alike."""
        digest = sha256(f"{self.seed} {site}".encode()).digest()
        return int.from_bytes(digest[:4], "big")

    def to_json(self) -> str:
        """Write the plan; the same plan gives the same text."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "ReasonerPlan":
        """Read `to_json`.

        Raises:
            PlanRefused: It is no plan that this version understands.
        """
        try:
            table = json.loads(text)
            base, settings = BaseName(**table["base"]), ReasonerSettings(**table["settings"])
            return cls(**{**table, "base": base, "settings": settings})
        except (ValueError, TypeError, KeyError) as error:
            raise PlanRefused(
                f"this version cannot read the coordinator's plan: {error}"
            ) from error
