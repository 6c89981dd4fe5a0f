"""What happened in a session: who took part, what was dropped and why, how long it took."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from federation.site import SiteProfile, Verdict


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
    """

    round: int
    exchange: str
    accepted: tuple[str, ...]
    rejected: Mapping[str, str]
    silent: tuple[str, ...]
    duration_s: float


@dataclass(slots=True)
class SessionReport:
    """Everything an operator wants to know of a session; grows while it runs.

    Attributes:
        members: Sites that were admitted.
        refused: Why each of these nodes was not.
        rounds: In order.
        verdicts: What each site made of the router.
        unanswered: Why there is no verdict of each of these sites.
    """

    members: dict[str, SiteProfile] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    rounds: list[RoundReport] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)
