"""Which router serves from now on: a proposed one, or the one before it."""

from datetime import datetime

from gateway.artifacts.store import ArtifactStore
from gateway.learning.events import OPERATOR, Event, LearningEvents
from gateway.routing.canary import STATES, kept
from router_models.errors import ArtifactRejected


def let_serve(store: ArtifactStore, version: str, default_artifact: bytes | None) -> None:
    """Activate a version; a packaged router that served so far becomes one to return to.

    Raises:
        ArtifactRejected: There is no such version, or it cannot serve.
        OSError: The folder cannot be written to.
    """
    if default_artifact is not None and not store.history():
        store.activate(store.put_own(default_artifact).version)
    store.activate(version)


def approve(
    events: LearningEvents,
    store: ArtifactStore,
    version: str | None,
    now: datetime,
    default_artifact: bytes | None = None,
    kept_share: float = 0.0,
) -> Event:
    """Let a router serve that the learner proposed, or that decides a share of the turns.

    Args:
        version: None for the one that was proposed last.
        default_artifact: The router that serves while none was activated.
        kept_share: Of the turns, that the router before it goes on deciding.

    Raises:
        ArtifactRejected: None was proposed, or it did worse than another one when it served.
    """
    proposed = events.latest("proposed", "canary", version=version)
    if proposed is None or proposed.router_version is None:
        which = "no router" if version is None else f"{version} is not a router that"
        raise ArtifactRejected(f"{which} was proposed; `waypost learn status` shows the steps")
    if proposed.router_version in events.rolled_back():
        raise ArtifactRejected(
            f"{proposed.router_version} was rolled back; `waypost router activate` lets it serve "
            "all the same"
        )
    former = store.active()
    let_serve(store, proposed.router_version, default_artifact)
    why = f"approved: {proposed.why}"
    figures = kept(kept_share, former)
    event = Event(now, OPERATOR, "activated", why, proposed.router_version, former, figures)
    events.add(event)
    return event


def roll_back(events: LearningEvents, store: ArtifactStore, now: datetime) -> Event:
    """End the canary, or let the router serve that served before the active one.

    Raises:
        ArtifactRejected: There is none, or it cannot be read.
    """
    last = events.latest(*STATES)
    if last is not None and last.what == "canary":
        refused, former = last.router_version, last.former_version
    else:
        refused = store.active()
        former = store.rollback().version
    event = Event(now, OPERATOR, "rolled_back", "an operator rolled it back", refused, former)
    events.add(event)
    return event
