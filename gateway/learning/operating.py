"""What an operator decides: let a proposed router serve, or the one before the active one."""

from datetime import datetime

from gateway.artifacts.store import ArtifactStore
from gateway.learning.events import OPERATOR, Event, LearningEvents
from router_models.errors import ArtifactRejected


def approve(
    events: LearningEvents, store: ArtifactStore, version: str | None, now: datetime
) -> Event:
    """Let a router serve that the learner proposed.

    Args:
        version: None for the one that was proposed last.

    Raises:
        ArtifactRejected: None was proposed, or it did worse than another one when it served.
    """
    proposed = events.latest("proposed", version=version)
    if proposed is None or proposed.router_version is None:
        which = "no router" if version is None else f"{version} is not a router that"
        raise ArtifactRejected(f"{which} was proposed; `waypost learn status` shows the steps")
    if proposed.router_version in events.rolled_back():
        raise ArtifactRejected(
            f"{proposed.router_version} was rolled back; `waypost router activate` lets it serve "
            "all the same"
        )
    former = store.active()
    store.activate(proposed.router_version)
    why = f"approved: {proposed.why}"
    event = Event(now, OPERATOR, "activated", why, proposed.router_version, former)
    events.add(event)
    return event


def roll_back(events: LearningEvents, store: ArtifactStore, now: datetime) -> Event:
    """Let the router serve that served before the active one.

    Raises:
        ArtifactRejected: There is none, or it cannot be read.
    """
    refused = store.active()
    former = store.rollback().version
    event = Event(now, OPERATOR, "rolled_back", "an operator rolled it back", refused, former)
    events.add(event)
    return event
