"""The part of a plan that every session has, whatever it trains."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPlan:
    """How a session waits for sites, and which of their replies count.

    Attributes:
        quorum: Fewest valid replies of a round; with fewer the session stops.
        timeout_s: Seconds after which a round ends without the nodes that have not replied.
        greeting_s: The same for a greeting, when a site reads its log or loads its model: a minute
            for 200,000 rows.
        longest_update: Updates whose norm is that many times the median one are rejected.
        largest_share: No site counts for more of a sum or mean, whatever it says it has.
        seed: The same seed, sites and replies give the same bits.
    """

    quorum: int = 2
    timeout_s: float = 600.0
    greeting_s: float = 120.0
    longest_update: float = 10.0
    largest_share: float = 0.5
    seed: int = 0
