"""The coordinator's view of the nodes: who is admitted, how they are asked, which answers count."""

import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from federation.errors import QuorumMissing, ReplyRejected
from federation.exchanges.exchange import Exchange
from federation.exchanges.masked import is_masked, masked_form
from federation.protocol import (
    ARTIFACT,
    HELLO,
    PUBLISH,
    REFUSED,
    Instruction,
    Payload,
    TrainingPlan,
    read_profile,
    read_refusal,
    read_verdict,
    refusal,
)
from federation.report import RoundReport, SessionReport
from federation.site import SCHEMA_VERSION, SiteProfile
from federation.updates import Reply, read_reply, screen

NO_ANSWER = "no answer in time"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """An exchange under way.

    Attributes:
        asked: Members that were asked, by node.
        began_s: On the fleet's clock.
    """

    exchange: Exchange
    instruction: Instruction
    asked: Mapping[int, SiteProfile]
    began_s: float

    @property
    def is_masked(self) -> bool:
        """Whether only the sum of all answers can be read."""
        return is_masked(self.exchange, self.instruction.plan)

    def length(self, payload: Payload) -> float:
        """Say how far an answer goes; 0 where that is hidden."""
        return 0.0 if self.is_masked else self.exchange.length(self.instruction, payload)


@dataclass(slots=True)
class Fleet:
    """The nodes of one session.

    Attributes:
        grid: Flower's way to the nodes.
        plan: Of the session; its columns are set once the sites are known.
        clock: Seconds, for durations.
        report: What happened so far.
    """

    grid: Grid
    plan: TrainingPlan
    clock: Callable[[], float]
    report: SessionReport = field(default_factory=SessionReport)
    _members: dict[int, SiteProfile] = field(default_factory=dict, init=False)
    _refused: set[int] = field(default_factory=set, init=False)

    def greet(self) -> None:
        """Admit or refuse the nodes that are new; one that does not answer is greeted again."""
        known = self._members.keys() | self._refused
        new = [node for node in self.grid.get_node_ids() if node not in known]
        content = Instruction(self.plan).to_content()
        replies = self._exchange(HELLO, content, new, self.plan.greeting_s)
        for node, reply in sorted(replies.items()):
            try:
                profile = self._check(reply)
            except ReplyRejected as error:
                self._refuse(node, str(error))
            else:
                self._members[node] = profile
                self.report.members[profile.name] = profile

    def present(self) -> dict[int, SiteProfile]:
        """Members that are connected now, in the order of their names."""
        connected = set(self.grid.get_node_ids())
        present = [item for item in self._members.items() if item[0] in connected]
        return dict(sorted(present, key=lambda item: item[1].name))

    def ask(self, exchange: Exchange, round_: int, state: Payload) -> Question:
        """Draw the members that this round asks, and put the question together."""
        instruction = exchange.instruction(self.plan, round_, state)
        members = list(self.present().items())
        n_asked = max(self.plan.quorum, math.ceil(exchange.share * len(members)))
        order = np.random.default_rng(instruction.seed).permutation(len(members))
        asked = dict(members[index] for index in sorted(order[:n_asked]))
        return Question(exchange, instruction, asked, self.clock())

    def messages(self, question: Question) -> list[Message]:
        """Write a question to everybody it is for."""
        content = question.instruction.to_content()
        return _address(
            question.exchange.name,
            content,
            question.asked,
            self.plan.timeout_s,
            question.instruction.round,
        )

    def hear(self, question: Question, messages: Iterable[Message]) -> list[Reply]:
        """Keep the answers that are in good order, by site; note what is wrong with the others."""
        exchange, instruction = question.exchange, question.instruction
        received = _by_node(messages)
        payloads: dict[str, Payload] = {}
        rejected: dict[str, str] = {}
        for node, site in question.asked.items():
            if node not in received:
                continue
            try:
                payloads[site.name] = _read(question, site, received[node])
            except ReplyRejected as error:
                rejected[site.name] = str(error)
        lengths = {site: question.length(payload) for site, payload in payloads.items()}
        kept, overlong = screen(lengths, self.plan.longest_update)
        rejected |= overlong
        for site_name, reason in rejected.items():
            logger.warning("dropped %s of %s: %s", exchange.name, site_name, reason)
        silent = (site.name for node, site in question.asked.items() if node not in received)
        self.report.rounds.append(
            RoundReport(
                instruction.round,
                exchange.name,
                tuple(sorted(kept)),
                rejected,
                tuple(silent),
                self.clock() - question.began_s,
            )
        )
        return [Reply(site, payloads[site]) for site in sorted(kept)]

    def publish(self, artifact: bytes) -> None:
        """Send the router to every member, and note what each makes of it."""
        sent = {ARTIFACT: np.frombuffer(artifact, np.uint8)}
        members = self.present()
        content = Instruction(self.plan, sent=sent).to_content()
        replies = self._exchange(PUBLISH, content, members, self.plan.timeout_s)
        self.report.unanswered = {s.name: NO_ANSWER for n, s in members.items() if n not in replies}
        for node, reply in replies.items():
            name = members[node].name
            try:
                self.report.verdicts[name] = read_verdict(reply)
            except ReplyRejected as error:
                self.report.unanswered[name] = str(error)

    def _check(self, reply: Message) -> SiteProfile:
        """Find out whether a site can take part.

        Raises:
            ReplyRejected: It cannot, or will not.
        """
        reason = read_refusal(reply)
        if reason is not None:
            raise ReplyRejected(f"the site refused: {reason}")
        profile = read_profile(reply)
        problem = problem_of(profile, self.plan)
        if profile.name in {member.name for member in self._members.values()}:
            problem = f"the name {profile.name!r} is taken by another node"
        if problem is not None:
            raise ReplyRejected(problem)
        return profile

    def _refuse(self, node: int, reason: str) -> None:
        """Tell a node why it cannot take part, without waiting for it to have heard."""
        logger.warning("refused node %d: %s", node, reason)
        self._refused.add(node)
        self.report.refused[str(node)] = reason
        self.grid.push_messages(_address(REFUSED, refusal(reason), [node], self.plan.greeting_s))

    def _exchange(
        self, name: str, content: RecordDict, nodes: Collection[int], timeout_s: float
    ) -> dict[int, Message]:
        messages = _address(name, content, nodes, timeout_s)
        if not messages:
            return {}
        received = _by_node(self.grid.send_and_receive(messages, timeout=timeout_s))
        # Flower reports messages that it lost as if the coordinator itself had answered.
        return {node: received[node] for node in nodes if node in received}


def problem_of(profile: SiteProfile, plan: TrainingPlan) -> str | None:
    """Say why a site's rows do not go with this plan's; None where they do."""
    encoder = plan.encoder
    if (profile.encoder_id, profile.dimension) != (encoder.id, encoder.dimension):
        return (
            f"its rows hold vectors of encoder {profile.encoder_id} ({profile.dimension} "
            f"dimensions), this federation uses {encoder.id} ({encoder.dimension}): set "
            "routing.encoder"
        )
    if profile.encoder_sha256 != encoder.sha256:
        return (
            f"its weights of encoder {encoder.id} are others ({profile.encoder_sha256[:12]}, not "
            f"{encoder.sha256[:12]}): install the same version"
        )
    if profile.schema_version != SCHEMA_VERSION:
        return (
            f"its evaluations have schema {profile.schema_version}, this coordinator reads "
            f"{SCHEMA_VERSION}: run the same version on both"
        )
    return _naming_problem(profile, plan)


def _naming_problem(profile: SiteProfile, plan: TrainingPlan) -> str | None:
    aliases = [model for model in profile.models if plan.registry.canonical(model) != model]
    if aliases:
        return f"it calls models {', '.join(aliases)} by aliases instead of the registry's names"
    unknown = sorted(set(profile.models) - set(plan.models)) if plan.models else []
    if unknown:
        return (
            f"models {', '.join(unknown)} are not in the federation's registry: have them added "
            "there, as aliases if they go by another name, or keep their rows out"
        )
    return None


def need_quorum(plan: TrainingPlan, present: int, report: SessionReport) -> None:
    """Go on only with enough answers.

    Raises:
        QuorumMissing: There are too few; the message says why each other one is missing.
    """
    if present >= plan.quorum:
        return
    reasons = {f"node {node}": reason for node, reason in report.refused.items()}
    if report.rounds:
        last = report.rounds[-1]
        reasons |= {**last.rejected, **dict.fromkeys(last.silent, NO_ANSWER)}
    details = "".join(f"; {name}: {reason}" for name, reason in reasons.items())
    raise QuorumMissing(f"{present} sites answered well, the quorum is {plan.quorum}{details}")


def _read(question: Question, site: SiteProfile, message: Message) -> Payload:
    """Unpack an answer, and hold the site to the rows it said it has.

    Raises:
        ReplyRejected: It is not what was asked for.
    """
    exchange = question.exchange
    form = exchange.form(question.instruction)
    if question.is_masked:
        return read_reply(message, masked_form(form))
    payload = read_reply(message, form)
    hold_to_claim(exchange, payload, site.rows)
    return payload


def hold_to_claim(exchange: Exchange, payload: Payload, claimed_rows: int) -> None:
    """Let through what is made of no more rows than there are said to be.

    Raises:
        ReplyRejected: It is made of more.
    """
    rows = exchange.rows(payload)
    # A profile's rows are those to learn from, rounded to a power of two; fewer are held out.
    if rows > 2 * claimed_rows:
        raise ReplyRejected(f"made of {rows:.0f} rows, where about {claimed_rows} were announced")


def _address(
    name: str, content: RecordDict, nodes: Iterable[int], timeout_s: float, round_: int = 0
) -> list[Message]:
    return [Message(content, n, name, ttl=timeout_s, group_id=str(round_)) for n in nodes]


def _by_node(messages: Iterable[Message]) -> dict[int, Message]:
    """Sort answers by who sent them; of two, the first counts."""
    received: dict[int, Message] = {}
    for message in messages:
        received.setdefault(message.metadata.src_node_id, message)
    return received
