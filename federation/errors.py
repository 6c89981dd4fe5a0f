"""What can go wrong in a federation, in the words of whoever caused it."""


class FederationError(Exception):
    """Anything this package raises on purpose."""


class EndedForGood(FederationError):
    """A process ended that must not be started again, and why."""


class PlanRefused(FederationError):
    """A site does not take part under this plan, and why."""


class ReplyRejected(FederationError):
    """A node's answer is not what was asked for; it is dropped, and the session goes on."""


class QuorumMissing(FederationError):
    """Too few nodes answered in time; the last checkpoint is still good."""


class GrowthRefused(FederationError):
    """Nothing can join the router that was asked to grow, and why."""


class CheckpointRejected(FederationError):
    """Bytes that no session can be continued from: damaged, or of another plan."""
