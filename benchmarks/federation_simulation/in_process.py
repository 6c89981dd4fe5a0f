"""A Flower grid whose nodes are client apps in this process: for simulations and tests.

The strategies and client apps are the real ones; messages are carried as they are, in the order of
the nodes. Time spent waiting is skipped: a node that stays silent costs a round its whole timeout
on the grid's own clock, and nothing on the wall.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from federation.protocol.failures import failure
from federation.protocol.report import size_of

Fault = Callable[[Message, Message], Message | None]
"""Takes instruction and reply; returns the reply that arrives, None if none does."""


@dataclass(frozen=True, slots=True, eq=False)
class Exchanged:
    """One message to a node and what came back; None where nothing did."""

    node: int
    instruction: Message
    reply: Message | None

    @property
    def bytes_sent(self) -> int:
        """Size of the instruction's content."""
        return size_of(self.instruction)

    @property
    def bytes_received(self) -> int:
        """Size of the reply's content."""
        return 0 if self.reply is None else size_of(self.reply)


@dataclass(slots=True)
class InProcessGrid(Grid):
    """Carries messages to client apps and back.

    Attributes:
        nodes: Client app of each node; change it to let nodes join and leave.
        faults: What befalls a node's replies.
        traffic: What was exchanged, in order; None to keep nothing.
    """

    nodes: dict[int, ClientApp]
    faults: Mapping[int, Fault] = field(default_factory=dict)
    traffic: list[Exchanged] | None = None
    _skipped_s: float = field(default=0.0, init=False)
    _replies: dict[str, Message] = field(default_factory=dict, init=False)
    _sent: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        # Flower's messages read who sends them from here; it is set once per process.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1

    def clock(self) -> float:
        """Seconds, those that were skipped included."""
        return time.monotonic() + self._skipped_s

    def sleep(self, seconds: float) -> None:
        """Skip time."""
        self._skipped_s += seconds

    def get_node_ids(self) -> list[int]:
        """List the nodes that are connected."""
        return sorted(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Let nodes answer at once; replies wait until they are pulled."""
        ids = []
        for message in messages:
            self._sent += 1
            message_id = str(self._sent)
            message.metadata.__dict__["_message_id"] = message_id
            reply = self._deliver(message)
            if reply is not None:
                self._replies[message_id] = reply
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Take the replies that there are."""
        waiting = [self._replies.pop(message_id, None) for message_id in message_ids]
        return [reply for reply in waiting if reply is not None]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Push and pull; skips to the timeout if a node stays silent."""
        began_s = self.clock()
        ids = self.push_messages(messages)
        replies = self.pull_messages(ids)
        if len(replies) < len(ids) and timeout is not None:
            self.sleep(max(0.0, began_s + timeout - self.clock()))
        return replies

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make a message; Flower asks grids for it though it is deprecated."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def set_run(self, run: Run) -> None:
        """Refuse: there are no runs here.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError

    @property
    def run(self) -> Run:
        """Refuse: there are no runs here.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError

    def _deliver(self, message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        reply = None
        if node in self.nodes:
            reply = self._work(node, message)
            fault = self.faults.get(node)
            reply = reply if fault is None else fault(message, reply)
        if self.traffic is not None:
            self.traffic.append(Exchanged(node, message, reply))
        return reply

    def _work(self, node: int, message: Message) -> Message:
        context = Context(1, node, {}, RecordDict(), {})
        try:
            return self.nodes[node](message, context)
        except Exception as error:  # noqa: BLE001 - as Flower's own client process does
            return failure(message, error)
