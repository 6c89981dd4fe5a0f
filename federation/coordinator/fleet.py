"""The sites of a router's session: which can take part, and the request of one exchange."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from flwr.app import Message, RecordDict

from federation.coordinator.nodes import NodeManager, Request
from federation.errors import ReplyRejected
from federation.exchanges.exchange import Exchange
from federation.exchanges.masked import is_masked, masked_form
from federation.protocol.joining import MODELS_JOIN, Growth
from federation.protocol.protocol import (
    HELLO,
    PUBLISH,
    Instruction,
    Payload,
    TrainingPlan,
    read_profile,
)
from federation.protocol.updates import read_reply
from federation.site import SCHEMA_VERSION, SiteProfile


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ExchangeRequest(Request[SiteProfile]):
    """One exchange of a router's session."""

    exchange: Exchange
    instruction: Instruction

    @property
    def name(self) -> str:
        """Flower's message type."""
        return self.exchange.name

    @property
    def round(self) -> int:
        """Counted from 1 over the whole session."""
        return self.instruction.round

    @property
    def is_masked(self) -> bool:
        """Whether only the sum of all answers can be read."""
        return is_masked(self.exchange, self.instruction.plan)

    def content_for(self, site: SiteProfile) -> RecordDict:  # noqa: ARG002
        """Return the instruction, the same for every site."""
        return self.instruction.to_content()

    def read(self, site: SiteProfile, message: Message) -> Payload:
        """Unpack a reply, and check it against the rows that the site announced.

        Raises:
            ReplyRejected: It is not what was asked for.
        """
        form = self.exchange.form(self.instruction)
        if self.is_masked:
            return read_reply(message, masked_form(form))
        payload = read_reply(message, form)
        check_claimed_rows(self.exchange, payload, site.rows)
        return payload

    def update_norm(self, payload: Payload) -> float:
        """Return the norm of an update; 0 where masks hide it."""
        return 0.0 if self.is_masked else self.exchange.update_norm(self.instruction, payload)


@dataclass(slots=True)
class Fleet(NodeManager[TrainingPlan, SiteProfile]):
    """The nodes of a router's session; the plan's columns are set once the sites are known.

    Attributes:
        trained_sites: Names of the sites whose rows are in the router that grows.
    """

    greeting: ClassVar[str] = HELLO
    publication: ClassVar[str] = PUBLISH

    trained_sites: frozenset[str] = frozenset()

    def pack(self, sent: Payload) -> RecordDict:
        """Pack an instruction that belongs to no round."""
        return Instruction(self.plan, sent=sent).to_content()

    def check_profile(self, reply: Message) -> SiteProfile:
        """Read a site's profile, and check it against the plan.

        Raises:
            ReplyRejected: It is no profile, or does not fit the plan.
        """
        profile = read_profile(reply)
        problem = problem_of(profile, self.plan)
        if problem is not None:
            raise ReplyRejected(problem)
        return profile

    def contributors(self) -> dict[int, SiteProfile]:
        """Connected members; where a router grows, those that have what may join it."""
        growth, joining = self.plan.growth, self.plan.joining
        if growth is None:
            return self.connected()
        return self.contributing(growth.models, joining or self.choose_joining(growth))

    def choose_joining(self, growth: Growth) -> str:
        """Choose what joins: the first allowed kind that a quorum has, or else the commonest."""
        brought = {each: len(self.contributing(growth.models, each)) for each in growth.allowed}
        enough = (each for each, sites in brought.items() if sites >= self.plan.quorum)
        return next(enough, max(brought, key=brought.__getitem__))

    def contributing(self, models: tuple[str, ...], joining: str) -> dict[int, SiteProfile]:
        """Connected members with models besides `models`, or new ones with some of these."""
        present = self.connected()
        if joining == MODELS_JOIN:
            return {n: site for n, site in present.items() if not set(site.models) <= set(models)}
        new = {n: site for n, site in present.items() if site.name not in self.trained_sites}
        return {n: site for n, site in new.items() if not set(site.models).isdisjoint(models)}

    def build_request(self, exchange: Exchange, round_: int, state: Payload) -> ExchangeRequest:
        """Select the members to ask in this round, and build the request."""
        instruction = exchange.instruction(self.plan, round_, state)
        members = list(self.contributors().items())
        n_asked = max(self.plan.quorum, math.ceil(exchange.share * len(members)))
        order = np.random.default_rng(instruction.seed).permutation(len(members))
        selected = dict(members[index] for index in sorted(order[:n_asked]))
        return ExchangeRequest(
            exchange=exchange,
            instruction=instruction,
            selected=selected,
            started_s=self.clock(),
        )


def problem_of(profile: SiteProfile, plan: TrainingPlan) -> str | None:
    """Say why a site's rows do not fit this plan; None where they do."""
    encoder = plan.encoder
    if (profile.encoder_id, profile.dimension) != (encoder.id, encoder.dimension):
        return (
            f"its rows hold vectors of encoder {profile.encoder_id} ({profile.dimension} "
            f"dimensions), this federation uses {encoder.id} ({encoder.dimension}): set "
            "routing.encoder"
        )
    if profile.encoder_sha256 != encoder.sha256:
        return (
            f"its files of encoder {encoder.id} differ ({profile.encoder_sha256[:12]}, not "
            f"{encoder.sha256[:12]}): install the same version"
        )
    if profile.schema_version != SCHEMA_VERSION:
        return (
            f"its evaluations have schema version {profile.schema_version}, this coordinator reads "
            f"{SCHEMA_VERSION}: run the same version on both"
        )
    return _naming_problem(profile, plan)


def _naming_problem(profile: SiteProfile, plan: TrainingPlan) -> str | None:
    aliases = [model for model in profile.models if plan.registry.canonical(model) != model]
    if aliases:
        return f"it sends aliases instead of the federation's names of models: {', '.join(aliases)}"
    unknown = sorted(set(profile.models) - set(plan.models)) if plan.models else []
    if unknown:
        return (
            f"models {', '.join(unknown)} are not in federation.coordinator.models: have them "
            "added "
            "there, as aliases if they go by another name, or keep their rows out"
        )
    return None


def check_claimed_rows(exchange: Exchange, payload: Payload, claimed_rows: int) -> None:
    """Check that a reply is made of no more rows than were announced.

    Raises:
        ReplyRejected: It is made of more.
    """
    rows = exchange.rows(payload)
    # A profile's rows are those to learn from, rounded to a power of two; fewer are held out.
    if rows > 2 * claimed_rows:
        raise ReplyRejected(
            f"it stands for {rows:.0f} rows, and the site announced about {claimed_rows}"
        )
