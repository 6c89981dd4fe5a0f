"""What happened in a session: who took part, what was dropped and why, how long it took."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, Message

from federation.site import Verdict


@dataclass(frozen=True, slots=True)
class RoundReport:
    """One exchange with the sites.

    Attributes:
        round: Counted from 1 over the whole session.
        exchange: What they were asked.
        accepted: Sites whose answers counted.
        rejected: Why each of these sites' answers did not.
        silent: Sites that did not answer in time.
        duration_s: From the question to the last answer that counted.
        bytes_sent: To all sites together, without what Flower wraps messages in.
        bytes_received: The same from them.
    """

    round: int
    exchange: str
    accepted: tuple[str, ...]
    rejected: Mapping[str, str]
    silent: tuple[str, ...]
    duration_s: float
    bytes_sent: int = 0
    bytes_received: int = 0


@dataclass(slots=True)
class SessionReport:
    """Everything an operator wants to know of a session; grows while it runs.

    Attributes:
        members: What each site that was admitted says of itself.
        refused: Why each of these nodes was not.
        rounds: In order.
        verdicts: What each site made of what came out.
        unanswered: Why there is no verdict of each of these sites.
    """

    members: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    rounds: list[RoundReport] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)


def size_of(message: Message) -> int:
    """Bytes of a message's arrays and texts, without what Flower wraps them in."""
    if not message.has_content():
        return 0
    total = 0
    for record in message.content.values():
        if isinstance(record, ArrayRecord):
            total += sum(len(array.data) for array in record.values())
        else:
            total += sum(len(str(value)) for value in record.values())
    return total
