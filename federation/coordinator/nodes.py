"""The coordinator's nodes: which are admitted, how they are asked, which replies count.

This is the same whatever a session trains; `federation.coordinator.fleet` has what a router needs.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, Generic, TypeVar

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from federation.errors import QuorumMissing, ReplyRejected
from federation.protocol.protocol import (
    ARTIFACT,
    REFUSED,
    SIGNATURE,
    Payload,
    read_refusal,
    read_verdict,
    refusal,
)
from federation.protocol.report import RoundReport, SessionReport, size_of
from federation.protocol.session_plan import SessionPlan
from federation.protocol.updates import Reply, screen_norms
from federation.site import Profile

NO_ANSWER: Final = "no answer in time"

POLL_S: Final = 3.0
"""Between looks for nodes that have not connected yet."""

logger = logging.getLogger(__name__)


PlanT = TypeVar("PlanT", bound=SessionPlan)
ProfileT = TypeVar("ProfileT", bound=Profile)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Request(ABC, Generic[ProfileT]):
    """What the coordinator asks of the selected nodes in one round, and how it reads a reply.

    Attributes:
        selected: Profiles of the nodes that are asked, by node id.
        started_s: When the request was made, on the node manager's clock.
    """

    selected: Mapping[int, ProfileT]
    started_s: float

    @property
    @abstractmethod
    def name(self) -> str:
        """Flower's message type."""

    @property
    @abstractmethod
    def round(self) -> int:
        """Number of the round, counted from 1 over the whole session."""

    @abstractmethod
    def content_for(self, site: ProfileT) -> RecordDict:
        """Return the content of the message to one site."""

    @abstractmethod
    def read(self, site: ProfileT, message: Message) -> Payload:
        """Unpack and check one site's reply.

        Raises:
            ReplyRejected: It is not what was asked for.
        """

    @abstractmethod
    def update_norm(self, payload: Payload) -> float:
        """Return the norm of a site's update; those far above the median are rejected."""


@dataclass(slots=True)
class NodeManager(ABC, Generic[PlanT, ProfileT]):
    """The nodes of one session.

    Attributes:
        grid: Flower's way to the nodes.
        plan: Of the session.
        clock: Seconds, for durations.
        report: What happened so far.
    """

    greeting: ClassVar[str]
    """Flower's message type of a greeting."""
    publication: ClassVar[str]
    """The same of the artefact that the session trained."""

    grid: Grid
    plan: PlanT
    clock: Callable[[], float]
    report: SessionReport = field(default_factory=SessionReport)
    _members: dict[int, ProfileT] = field(default_factory=dict, init=False)
    _refused: set[int] = field(default_factory=set, init=False)

    @abstractmethod
    def pack(self, sent: Payload) -> RecordDict:
        """Pack an instruction that belongs to no round."""

    @abstractmethod
    def check_profile(self, reply: Message) -> ProfileT:
        """Read a site's profile, and check it against the plan.

        Raises:
            ReplyRejected: It is no profile, or does not fit the plan.
        """

    def wait_for_quorum(self, sleep: Callable[[float], None]) -> None:
        """Wait until a quorum of contributors is connected.

        Raises:
            QuorumMissing: They did not connect in time.
        """
        deadline = self.clock() + self.plan.timeout_s
        self.admit_new_nodes()
        while len(self.contributors()) < self.plan.quorum and self.clock() < deadline:
            sleep(POLL_S)
            self.admit_new_nodes()
        require_quorum(self.plan, len(self.contributors()), self.report)

    def admit_new_nodes(self) -> None:
        """Admit or refuse the nodes that are new; one that does not answer is greeted again."""
        known = self._members.keys() | self._refused
        new = [node for node in self.grid.get_node_ids() if node not in known]
        contents = dict.fromkeys(new, self.pack({}))
        replies = self._exchange(self.greeting, contents, self.plan.greeting_s)
        for node, reply in sorted(replies.items()):
            try:
                profile = self._check(reply)
            except ReplyRejected as error:
                self._refuse(node, str(error))
            else:
                self._members[node] = profile
                self.report.members[profile.name] = profile

    def connected(self) -> dict[int, ProfileT]:
        """Members that are connected now, in the order of their names."""
        connected = set(self.grid.get_node_ids())
        present = [item for item in self._members.items() if item[0] in connected]
        return dict(sorted(present, key=lambda item: item[1].name))

    def contributors(self) -> dict[int, ProfileT]:
        """Connected members with something to train on: all, unless overridden."""
        return self.connected()

    def send_and_collect(self, request: Request[ProfileT]) -> list[Reply]:
        """Send a request to the selected nodes, and report on the round.

        Returns:
            The valid replies, sorted by site; the report says what is wrong with the others.
        """
        contents = {node: request.content_for(site) for node, site in request.selected.items()}
        sent = _address(request.name, contents, self.plan.timeout_s, request.round)
        received = _by_node(self.grid.send_and_receive(sent, timeout=self.plan.timeout_s))
        payloads: dict[str, Payload] = {}
        rejected: dict[str, str] = {}
        for node, site in request.selected.items():
            if node not in received:
                continue
            try:
                payloads[site.name] = request.read(site, received[node])
            except ReplyRejected as error:
                rejected[site.name] = str(error)
        norms = {site: request.update_norm(payload) for site, payload in payloads.items()}
        kept, overlong = screen_norms(norms, self.plan.longest_update)
        rejected |= overlong
        for site_name, reason in rejected.items():
            logger.warning(
                "rejected the answer to %s of site %s: %s", request.name, site_name, reason
            )
        silent = (site.name for node, site in request.selected.items() if node not in received)
        self.report.rounds.append(
            RoundReport(
                request.round,
                request.name,
                tuple(sorted(kept)),
                rejected,
                tuple(silent),
                self.clock() - request.started_s,
                sum(map(size_of, sent)),
                sum(map(size_of, received.values())),
            )
        )
        return [Reply(site, payloads[site]) for site in sorted(kept)]

    def publish(self, artifact: bytes, signature: bytes | None = None) -> None:
        """Send the trained artefact to every member, and record each one's verdict."""
        members = self.connected()
        sent = {ARTIFACT: np.frombuffer(artifact, np.uint8)}
        if signature is not None:
            sent[SIGNATURE] = np.frombuffer(signature, np.uint8)
        contents = dict.fromkeys(members, self.pack(sent))
        replies = self._exchange(self.publication, contents, self.plan.timeout_s)
        self.report.unanswered = {s.name: NO_ANSWER for n, s in members.items() if n not in replies}
        for node, reply in replies.items():
            name = members[node].name
            try:
                self.report.verdicts[name] = read_verdict(reply)
            except ReplyRejected as error:
                self.report.unanswered[name] = str(error)

    def _check(self, reply: Message) -> ProfileT:
        """Find out whether a site can take part.

        Raises:
            ReplyRejected: It cannot, or will not.
        """
        reason = read_refusal(reply)
        if reason is not None:
            raise ReplyRejected(f"the site refused: {reason}")
        profile = self.check_profile(reply)
        if profile.name in {member.name for member in self._members.values()}:
            raise ReplyRejected(f"the name {profile.name!r} is taken by another node")
        return profile

    def _refuse(self, node: int, reason: str) -> None:
        """Send a node the reason why it cannot take part, without waiting for a reply."""
        logger.warning("refused node %d: %s", node, reason)
        self._refused.add(node)
        self.report.refused[str(node)] = reason
        self.grid.push_messages(_address(REFUSED, {node: refusal(reason)}, self.plan.greeting_s))

    def _exchange(
        self, name: str, contents: Mapping[int, RecordDict], timeout_s: float
    ) -> dict[int, Message]:
        messages = _address(name, contents, timeout_s)
        if not messages:
            return {}
        received = _by_node(self.grid.send_and_receive(messages, timeout=timeout_s))
        # Flower reports messages that it lost as if the coordinator itself had answered.
        return {node: received[node] for node in contents if node in received}


def require_quorum(plan: SessionPlan, present: int, report: SessionReport) -> None:
    """Check that a quorum of sites replied well.

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
    raise QuorumMissing(
        f"{present} sites gave accepted answers, the quorum is {plan.quorum}{details}"
    )


def _address(
    name: str, contents: Mapping[int, RecordDict], timeout_s: float, round_: int = 0
) -> list[Message]:
    return [
        Message(content, node, name, ttl=timeout_s, group_id=str(round_))
        for node, content in contents.items()
    ]


def _by_node(messages: Iterable[Message]) -> dict[int, Message]:
    """Index replies by the node that sent them; of two, the first counts."""
    received: dict[int, Message] = {}
    for message in messages:
        received.setdefault(message.metadata.src_node_id, message)
    return received
